"""N(i, k): the k most similar, the anchor first, ties broken by index so that a run repeats."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def nearest(similarity: Float[Tensor, "b b"], k: int) -> Int[Tensor, "b k"]:
    """The k most similar columns of each row, most similar first.

    The anchor itself always comes first, even among exact duplicates ("self counts", Eq. 3; "self first", Eqs. 4-5).

    Args:
        similarity: (b b), larger is nearer.
        k: 1 <= k <= b.

    Returns:
        (b k) int64; equal similarities in order of index.
    """
    return largest(similarity.clone().fill_diagonal_(torch.inf), k)


def largest(scores: Float[Tensor, "r c"], k: int) -> Int[Tensor, "r k"]:
    """Where the k largest of each row are, the largest first, equal ones in order of index."""
    scores = scores.detach()
    if scores.dtype != torch.float32:
        return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    if scores.device.type == "cpu" and (found := _partitioned(scores, k)) is not None:
        return found
    # topk alone picks any of equal values, and a stable sort of whole rows takes 2 to 3 times as long (b = 256 to 4,096).
    # So score and index become one integer, in the same order and no two equal: exact, without a branch on the values.
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # as integers, negative floats run backwards
    ties = torch.arange(scores.shape[1] - 1, -1, -1, device=scores.device)
    return ((ordered.to(torch.int64) << 32) | ties).topk(k).indices


def _partitioned(scores: Float[Tensor, "r c"], k: int) -> Int[Tensor, "r k"] | None:
    """`largest` where no k-th largest equals one that is left out, else None.

    numpy's partition is vectorised: on one core it takes half the time that topk takes on two. Those found are ranked by
    score and index as one integer, as in `largest`.
    """
    table, last = scores.numpy(), scores.shape[1] - 1
    least = np.partition(table, last + 1 - k, axis=1)[:, last + 1 - k, None]
    found = np.flatnonzero(table >= least)
    if len(found) != len(table) * k:
        return None
    bits = (table.ravel()[found] + np.float32(0)).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = ((bits.astype(np.int64) << 32) | (last - found % (last + 1))).reshape(len(table), k)
    keys.sort(axis=1)
    return torch.from_numpy(last - (keys[:, ::-1] & 0xFFFFFFFF))


def check_sizes(batch: int, **sizes: int) -> None:
    """Raises ValueError unless 1 <= size <= batch for each named size."""
    for name, size in sizes.items():
        if not 1 <= size <= batch:
            raise ValueError(f"{name}={size} should be between 1 and the number of images in the batch, {batch}.")
