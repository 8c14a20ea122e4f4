"""Group concordance (Eqs. 8, 14): the mean over the kept anchors i of the mean over their neighbours j of the pair loss l_ij.

1/|kept| sum_{i kept} 1/k sum_j l_ij
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.losses.precision import upcast


def group_mean(
    pairs: Float[Tensor, "b k"], kept: Bool[Tensor, " b"], total: Int[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Mean over the kept anchors of the mean over their neighbours; 0 where no anchor is kept.

    Args:
        pairs: (b k), the loss of each anchor with each of its k neighbours.
        kept: (b), the anchors that count.
        total: what to divide by instead of `kept.sum()`. With the number kept in all processes, the losses of the processes
            add up to the loss of the whole batch.

    Returns:
        scalar.

    Raises:
        ValueError: k = 0.
    """
    if pairs.shape[1] == 0:
        raise ValueError("pairs (b k) has k = 0 neighbours for each anchor and should have at least 1.")
    per_anchor = upcast(pairs).mean(dim=1) * kept
    return per_anchor.sum() / (kept.sum() if total is None else total).clamp(min=1)
