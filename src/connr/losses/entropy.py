"""How evenly a batch fills the clusters.

p_mean = 1/b sum_i p_i
H(p_mean) = -sum_k p_mean_k ln p_mean_k
KL(p_mean || uniform) = ln K - H(p_mean)
"""

import math

from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import check_rows, clamped_log, upcast


def mean_entropy(assignments: Float[Tensor, "b K"]) -> Float[Tensor, ""]:
    """H(p_mean), the entropy of the mean assignment. Subtract it from a loss: it is largest where clusters are equally full.

    Args:
        assignments: (b K), p, probabilities.

    Returns:
        scalar in [0, ln K].

    Raises:
        ValueError: b = 0.
    """
    check_rows("assignments", assignments)
    mean = upcast(assignments).mean(dim=0)
    return -(mean * clamped_log(mean)).sum()


def kl_to_uniform(assignments: Float[Tensor, "b K"]) -> Float[Tensor, ""]:
    """KL(p_mean || uniform) = ln K - H(p_mean): 0 where all clusters are equally full.

    Args:
        assignments: (b K), p, probabilities.

    Returns:
        scalar in [0, ln K].

    Raises:
        ValueError: b = 0 or K = 0.
    """
    check_rows("assignments.T", assignments.T)
    return math.log(assignments.shape[1]) - mean_entropy(assignments)
