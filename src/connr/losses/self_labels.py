"""Self-labelling: confident assignments of a weak view are the labels of the strong view (SCAN, TCL).

    y_i = argmax_k p_ik of the weak view, kept where max_k p_ik > threshold
    class-weighted cross-entropy    mean over the kept classes k of the mean over kept i with y_i = k of -ln softmax(l_i)_k

Weights 1/(size of the class) over their sum make a weighted mean of all images exactly this mean of class means.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.losses.precision import check_rows, upcast


class SelfLabelLoss(NamedTuple):
    """loss: scalar with gradient. share: scalar in [0, 1], the share of images that have a label; no gradient."""

    loss: Float[Tensor, ""]
    share: Float[Tensor, ""]


def balanced_cross_entropy(
    logits: Float[Tensor, "b K"], labels: Int[Tensor, " b"], kept: Bool[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Cross-entropy in which every class that occurs has the same weight.

    Args:
        logits: (b K), before the softmax.
        labels: (b), in 0...K-1 where kept; others are not looked at.
        kept: (b), the images that count.

    Returns:
        scalar >= 0; 0 where no image is kept.

    Raises:
        ValueError: b = 0.
    """
    check_rows("logits", logits)
    member = (labels[:, None] == torch.arange(logits.shape[1], device=labels.device)) & kept[:, None]
    sizes = member.sum(dim=0)
    per_class = -(F.log_softmax(upcast(logits), dim=1) * member).sum(dim=0) / sizes.clamp(min=1)
    return per_class.sum() / (sizes > 0).sum().clamp(min=1)


def confident_cross_entropy(
    strong_logits: Float[Tensor, "b K"], weak_assignments: Float[Tensor, "b K"], threshold: float = 0.99
) -> SelfLabelLoss:
    """SCAN's self-labelling step.

    Args:
        strong_logits: (b K), logits of the strong view, before the softmax.
        weak_assignments: (b K), p, probabilities of the weak view; taken without gradient.
        threshold: in [0, 1); only images with max p above it have a label.

    Returns:
        The loss, and the share of images with a label. The loss is 0 where none has one.

    Raises:
        ValueError: b = 0.
    """
    confidence, labels = upcast(weak_assignments.detach()).max(dim=1)
    kept = confidence > threshold
    return SelfLabelLoss(balanced_cross_entropy(strong_logits, labels, kept), kept.to(upcast(strong_logits).dtype).mean())


@torch.no_grad()
def top_per_cluster(assignments: Float[Tensor, "b K"], ratio: float = 0.5, threshold: float = 0.99) -> Bool[Tensor, " b"]:
    """TCL's choice of pseudo-labels: of each cluster the ceil(ratio b / K) most confident images, if confident enough.

    Args:
        assignments: (b K), p, probabilities; the label of an image is its argmax.
        ratio: in (0, 1], of the size b / K that a cluster would have if all were equal.
        threshold: in [0, 1]; images with max p below it have no label.

    Returns:
        (b), True where the argmax may serve as a label. Ties go by index.

    Raises:
        ValueError: b = 0, or ratio outside (0, 1].
    """
    check_rows("assignments", assignments)
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio={ratio} should be in (0, 1].")
    b, n_clusters = assignments.shape
    confidence, labels = upcast(assignments).max(dim=1)
    by_confidence = torch.argsort(confidence, descending=True, stable=True)
    member = F.one_hot(labels[by_confidence], n_clusters)
    rank = (member.cumsum(dim=0) * member).sum(dim=1)  # 1 for the most confident image of each cluster
    chosen = torch.empty(b, dtype=torch.bool, device=assignments.device)
    chosen[by_confidence] = rank <= math.ceil(ratio * b / n_clusters - 1e-9)  # what rounding adds is no image more
    return chosen & (confidence >= threshold)
