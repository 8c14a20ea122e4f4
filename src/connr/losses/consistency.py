"""An image and its neighbour belong to one cluster.

    SCAN (Van Gansbeke et al. 2020)    1/b sum_i -ln(p_i . n_i),  n_i = assignment of a nearest neighbour of i
    NNM (Dang et al. 2021)             the same + cross-entropy of the columns of p against those of n

Both subtract 5 H(p_mean) as well: `connr.losses.mean_entropy`.
"""

from jaxtyping import Float
from torch import Tensor

from connr.losses.columns import column_cross_entropy
from connr.losses.precision import check_rows, clamped_log, upcast


def neighbour_consistency(assignments: Float[Tensor, "b K"], neighbours: Float[Tensor, "b K"]) -> Float[Tensor, ""]:
    """SCAN's consistency: the mean of -ln(p_i . n_i).

    Args:
        assignments: (b K), p, probabilities of the anchors.
        neighbours: (b K), n, probabilities of one neighbour of each anchor.

    Returns:
        scalar in [0, 69.1]: inner products below 1e-30 count as 1e-30.

    Raises:
        ValueError: b = 0.
    """
    check_rows("assignments", assignments)
    return -clamped_log((upcast(assignments) * upcast(neighbours)).sum(dim=1)).mean()


def neighbour_matching(assignments: Float[Tensor, "b K"], neighbours: Float[Tensor, "b K"]) -> Float[Tensor, ""]:
    """NNM's term for one kind of neighbour: consistency of the rows + contrast of the columns.

    Args:
        assignments: (b K), p, probabilities of the anchors.
        neighbours: (b K), n, probabilities of a neighbour of each: from the batch, from the data set, or stored ones.

    Returns:
        scalar >= 0.

    Raises:
        ValueError: b = 0 or K = 0.
    """
    return neighbour_consistency(assignments, neighbours) + column_cross_entropy(assignments, neighbours)
