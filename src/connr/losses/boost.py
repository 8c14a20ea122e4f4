"""DCBoost's discriminative term (Li et al. 2025), on the anchors whose neighbours all share their cluster.

    pull     mean over kept i of the mean over kept j with y_j = y_i of 1 - cos(z_i, z'_j)
    push     mean over ordered pairs k != l of clusters with a kept image of cos(mu_k, mu_l)
    mu_k = mean of the unit z_i over the kept i with y_i = k

j = i is the image's own other view. There is no temperature: the paper calls the term free of parameters.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.losses.precision import check_rows
from connr.losses.prototypes import batch_prototypes
from connr.losses.sphere import normalize_rows


def pull_together(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], labels: Int[Tensor, " b"], kept: Bool[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Compactness: kept images of one cluster agree across views.

    Args:
        first: (b d), z of one view, need not be normalised.
        second: (b d), z' of the other view, need not be normalised.
        labels: (b), clusters, >= 0 where kept.
        kept: (b), the reliable anchors.

    Returns:
        scalar in [0, 2]; 0 where none is kept.

    Raises:
        ValueError: b = 0.
    """
    check_rows("first", first)
    distances = 1 - normalize_rows(first) @ normalize_rows(second).T
    positives = (labels[:, None] == labels) & kept
    per_anchor = (distances * positives).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
    return (per_anchor * kept).sum() / kept.sum().clamp(min=1)


def push_apart(
    embeddings: Float[Tensor, "b d"], labels: Int[Tensor, " b"], kept: Bool[Tensor, " b"], n_clusters: int
) -> Float[Tensor, ""]:
    """Separation: the means of the clusters' kept images point away from each other.

    Args:
        embeddings: (b d), z, need not be normalised.
        labels: (b), in 0...n_clusters-1 where kept.
        kept: (b), the reliable anchors.
        n_clusters: K >= 1.

    Returns:
        scalar in [-1, 1]; 0 with fewer than two clusters that have a kept image.

    Raises:
        ValueError: b = 0 or n_clusters < 1.
    """
    check_rows("embeddings", embeddings)
    means, present = batch_prototypes(embeddings, torch.where(kept, labels, -1), n_clusters)
    pairs = present[:, None] & present & ~torch.eye(n_clusters, dtype=torch.bool, device=means.device)
    return (means @ means.T * pairs).sum() / pairs.sum().clamp(min=1)


def boost_loss(
    first: Float[Tensor, "b d"],
    second: Float[Tensor, "b d"],
    labels: Int[Tensor, " b"],
    kept: Bool[Tensor, " b"],
    n_clusters: int,
) -> Float[Tensor, ""]:
    """Compactness + separation, which is added to the loss of a base method.

    Args:
        first: (b d), z of one view, need not be normalised.
        second: (b d), z' of the other view, need not be normalised.
        labels: (b), in 0...n_clusters-1 where kept.
        kept: (b), the reliable anchors.
        n_clusters: K >= 1.

    Returns:
        scalar in [-1, 3]; 0 where no anchor is kept.

    Raises:
        ValueError: b = 0 or n_clusters < 1.
    """
    return pull_together(first, second, labels, kept) + push_apart(first, labels, kept, n_clusters)
