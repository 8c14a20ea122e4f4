"""N(i, k): the k most similar, the anchor first, ties broken by index so that a run repeats.

The last bits of a product depend on the processor and on the shape of the matrices. So that they seldom decide, similarities
are rounded to a fixed number of binary digits before they are ranked. Rows with the same numbers always tie: one of them
stands for all.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.neighbours.duplicates import first_of_equals


def digits(dtype: torch.dtype) -> int:
    """Binary digits after the point that similarities and scores are rounded to: 20 in single precision, 40 in double."""
    return 40 if dtype == torch.float64 else 20


def round_(similarities: Tensor) -> Tensor:
    """In place, to `digits`, for values between -2 and 2: adding 12 leaves a float32 20 binary digits after the point."""
    if similarities.dtype not in (torch.float32, torch.float64):
        return similarities  # half precision has fewer
    shift = 1.5 * 2 ** ((52 if similarities.dtype == torch.float64 else 23) - digits(similarities.dtype))
    return similarities.add_(shift).sub_(shift)


def similarities(features: Float[Tensor, "b d"]) -> Float[Tensor, "b b"]:
    """<f_i, f_j>, rounded, and the same for rows with the same numbers."""
    found = round_(features @ features.T)
    first = first_of_equals(features)
    if first.device.type == "cpu" and np.array_equal(first.numpy(), np.arange(len(first))):  # a GPU is not waited for
        return found
    return found[first][:, first]


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


def cosines_at_zero(
    scores: Float[Tensor, "r b"], rows: Int[Tensor, " r"], features: Float[Tensor, "b d"]
) -> Float[Tensor, "r b"]:
    """Numbers that rank as (score, and where it is 0 the cosine) does: scores above 0, those of 0 by cosine, those below 0.

    Args:
        scores: of these rows to all, between -2 and 2, rounded; infinite for the row itself.
        rows: which they are.
        features: of all, L2-normalised.
    """
    first = first_of_equals(features)
    cosines = round_(features[first[rows]] @ features.T)[:, first]
    return torch.where(scores == 0, cosines, scores + 4 * scores.sign())


def check_sizes(batch: int, **sizes: int) -> None:
    """Raises ValueError unless 1 <= size <= batch for each named size."""
    for name, size in sizes.items():
        if not 1 <= size <= batch:
            raise ValueError(f"{name}={size} should be between 1 and the number of images in the batch, {batch}.")
