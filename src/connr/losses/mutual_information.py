"""IIC (Ji et al. 2019): minus the mutual information between the clusters of two views.

Q = 1/b sum_i p_i p'_i^T,  P = (Q + Q^T) / sum(Q + Q^T),  P_k = sum_l P_kl
-sum_kl P_kl (ln P_kl - lambda ln P_k - lambda ln P_l)
"""

from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import EPSILON, check_rows, clamped_log, upcast


def negative_mutual_information(
    first: Float[Tensor, "b K"], second: Float[Tensor, "b K"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """Minus the mutual information of two views' clusters.

    Args:
        first: (b K), p, assignment probabilities of one view.
        second: (b K), p' of the other view.
        weight: lambda > 0, the weight of the marginals' entropies; above 1 clusters are filled more evenly.

    Returns:
        scalar; in [-ln K, 0] with lambda = 1.

    Raises:
        ValueError: b = 0.
    """
    check_rows("first", first)
    joint = upcast(first).T @ upcast(second)
    joint = joint + joint.T
    joint = joint / joint.sum().clamp(min=EPSILON)
    marginal = clamped_log(joint.sum(dim=1))
    return -(joint * (clamped_log(joint) - weight * marginal[:, None] - weight * marginal[None, :])).sum()
