"""DivClust (Maniadis Metaxas et al. 2023): M clusterings of the same images may agree only up to a threshold d.

c^a_k = column k of clustering a, over its L2 norm
S_ab = mean_k max_l c^a_k . c^b_l
1/M sum_{a != b} max(0, S_ab - d)
d <- 0.99 d where the clusterings agree more than wanted (mean NMI above its target), else min(1, 1.01 d)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import check_rows
from connr.losses.sphere import normalize_rows


def clustering_similarities(assignments: Float[Tensor, "M b K"]) -> Float[Tensor, "M M"]:
    """S, how alike the clusters of each two clusterings are.

    Args:
        assignments: (M b K), p of M clusterings of the same images, probabilities.

    Returns:
        (M M), in [0, 1]; not symmetric; 1 on the diagonal.

    Raises:
        ValueError: M = 0 or K = 0.
    """
    check_rows("assignments", assignments)
    check_rows("assignments.mT", assignments.permute(2, 0, 1))
    columns = normalize_rows(assignments.mT)
    return torch.einsum("akb,clb->ackl", columns, columns).amax(dim=3).mean(dim=2)


def diversity_penalty(assignments: Float[Tensor, "M b K"], threshold: float | Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The penalty on pairs of clusterings that agree beyond the threshold.

    Args:
        assignments: (M b K), p of M clusterings of the same images, probabilities.
        threshold: d in [0, 1].

    Returns:
        scalar in [0, M - 1]; 0 with M = 1.

    Raises:
        ValueError: M = 0 or K = 0.
    """
    excess = (clustering_similarities(assignments) - threshold).relu()
    return (excess.sum() - excess.diagonal().sum()) / len(excess)


def next_threshold(threshold: float, agreement: float, target: float, rate: float = 0.01) -> float:
    """The threshold after a look at how much the clusterings agree.

    Args:
        threshold: d in (0, 1].
        agreement: mean NMI over the pairs of clusterings, in [0, 1].
        target: the NMI wanted, in [0, 1].
        rate: of change, in (0, 1).

    Returns:
        d (1 - rate) where the agreement is above its target, else d (1 + rate), at most 1.
    """
    return threshold * (1 - rate) if agreement > target else min(1.0, threshold * (1 + rate))
