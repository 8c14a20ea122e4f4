"""DCCM (Wu et al. 2019): pairs, labels and mutual information, each supervised by the network's own confident assignments.

W_ij = 1[cos(p_i, p_j) >= 0.95], p of the plain images
pairs      mean_ij -(W_ij ln S_ij + (1 - W_ij) ln(1 - S_ij)),  S_ij = cos(p_i, p'_j) / max_kl cos(p_k, p'_l)
labels     mean over i with max p_i >= 0.9, and over k, of -(y_ik ln p'_ik + (1 - y_ik) ln(1 - p'_ik))
           y_i = argmax p_i, one-hot
JSD        mean over W_ij = 1 of softplus(-T_ij) + mean over W_ij = 0 of softplus(T_ij)
           T_ij = a discriminator's score of deep feature i with shallow feature j; the term is minus the Jensen-Shannon
           bound on their mutual information

The weights of the three in DCCM are 1, 5 and 0.05.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from connr.losses.precision import EPSILON, check_rows, clamped_log, upcast
from connr.losses.sphere import normalize_rows


@torch.no_grad()
def confident_pairs(assignments: Float[Tensor, "b K"], threshold: float = 0.95) -> Bool[Tensor, "b b"]:
    """W, the pairs of images whose assignments are nearly parallel.

    Args:
        assignments: (b K), p of the plain images, probabilities.
        threshold: in [0, 1], least cosine of a pair.

    Returns:
        (b b), symmetric, True on the diagonal.
    """
    rows = normalize_rows(assignments)
    similar = rows @ rows.T >= threshold
    return similar | similar.T | torch.eye(len(rows), dtype=torch.bool, device=rows.device)


def pair_cross_entropy(
    first: Float[Tensor, "b K"], second: Float[Tensor, "b K"], similar: Bool[Tensor, "b b"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the cosines between assignments against the pairs.

    Args:
        first: (b K), p, probabilities.
        second: (b K), p' of the same or of transformed images, probabilities.
        similar: (b b), W, from `confident_pairs`.

    Returns:
        scalar >= 0, at most 69.1 a pair.

    Raises:
        ValueError: b = 0.
    """
    check_rows("first", first)
    cosines = normalize_rows(first) @ normalize_rows(second).T
    cosines = cosines / cosines.amax().clamp(min=EPSILON)
    return -torch.where(similar, clamped_log(cosines), clamped_log(1 - cosines)).mean()


def label_cross_entropy(
    predictions: Float[Tensor, "b K"], references: Float[Tensor, "b K"], threshold: float = 0.9
) -> Float[Tensor, ""]:
    """Binary cross-entropy of predictions against the one-hot labels of confident references.

    Args:
        predictions: (b K), p', in [0, 1], with gradient.
        references: (b K), p of the plain images, probabilities; taken without gradient.
        threshold: in [0, 1], least confidence of a label.

    Returns:
        scalar >= 0, the mean over labelled images and K clusters; 0 where no image has a label.

    Raises:
        ValueError: b = 0 or K = 0.
    """
    check_rows("predictions", predictions)
    check_rows("predictions.T", predictions.T)
    confidence, labels = upcast(references.detach()).max(dim=1)
    kept = confidence >= threshold
    own = F.one_hot(labels, predictions.shape[1]).bool()
    values = upcast(predictions)
    per_image = -torch.where(own, clamped_log(values), clamped_log(1 - values)).mean(dim=1)
    return (per_image * kept).sum() / kept.sum().clamp(min=1)


def jensen_shannon(scores: Float[Tensor, "b m"], positive: Bool[Tensor, "b m"]) -> Float[Tensor, ""]:
    """Minus the Jensen-Shannon bound on mutual information, without its constant.

    Args:
        scores: (b m), T, a discriminator's scores of pairs; unbounded.
        positive: (b m), the pairs that belong together: the identity for an image with itself, W for its cluster.

    Returns:
        scalar >= 0; a kind of pair that does not occur counts 0.
    """
    values = upcast(scores)
    attract = (F.softplus(-values) * positive).sum() / positive.sum().clamp(min=1)
    repel = (F.softplus(values) * ~positive).sum() / (~positive).sum().clamp(min=1)
    return attract + repel
