"""The exact nearest neighbours of every row, in memory O(n k): the similarities pass through the cache a block at a time.

S_ij = S_ji, so a block of S serves the rows of both its sides and half of the products are enough: on 2 cores that takes half
the time of faiss's exact search (`benchmarks/neighbours.py`). Of a block only the groups of columns are looked into whose
maximum beats what the row has found so far, which are few.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.neighbours.duplicates import expanded, first_of_equals
from connr.neighbours.nearest import largest, round_

BLOCK = 4096  # rows and columns of S at a time
GROUP = 64  # columns of which one maximum is taken
CROWDED = 2  # if 1 in CROWDED groups may hold a neighbour, the whole block is ranked


class Nearest(NamedTuple):
    """The m nearest rows of each of n, itself first, then by falling similarity, ties by index; itself has similarity 1."""

    indices: Int[Tensor, "n m"]
    similarities: Float[Tensor, "n m"]


def nearest_blockwise(features: Float[Tensor, "n d"], m: int) -> Nearest:
    """What `nearest(similarities(features), m)` returns, and how similar they are, without the n x n matrix.

    Similarities are rounded to 2^-20, in double precision to 2^-40. Products of two ways to cut a matrix differ in their last
    bits, and may be rounded differently: neighbours whose similarities differ by no more than that may change places.

    Args:
        features: (n d), L2-normalised rows.
        m: 1 <= m <= n.
    """
    features = features.detach()
    first = first_of_equals(features)
    different = (first == torch.arange(len(first), device=first.device)).nonzero().squeeze(1)
    if len(different) == len(features):
        return _nearest_of_different(features, m)
    rows = features[different]
    found = _nearest_of_different(rows, min(m, len(rows)))
    found.similarities[:, 0] = round_(rows.square().sum(dim=1))  # as to its copies
    return Nearest(*expanded(first, *found, m))


def _nearest_of_different(features: Float[Tensor, "n d"], m: int) -> Nearest:
    """`nearest_blockwise` of rows that differ."""
    n, found = len(features), BestColumns(features, m - 1)
    memory = features.new_empty(min(BLOCK, -(-n // GROUP) * GROUP) ** 2)  # once: fresh pages cost more than the products
    for top in range(0, n, BLOCK) if m > 1 else ():
        rows = slice(top, min(top + BLOCK, n))
        for left in range(top, n, BLOCK):
            columns = slice(left, min(left + BLOCK, n))
            block = _products(features[rows], features[columns], memory)
            if left == top:
                block.fill_diagonal_(-torch.inf)  # the anchor is known to be first
            groups = block.view(len(block), -1, GROUP)
            found.add(rows, columns, groups, groups.amax(dim=2))
            if left > top:
                groups = block.view(-1, GROUP, block.shape[1])
                found.add(columns, rows, groups.permute(2, 0, 1), groups.amax(dim=1).T.contiguous())
    anchors = torch.arange(n, device=features.device).unsqueeze(1)
    itself = features.new_ones(n, 1)
    return Nearest(torch.cat([anchors, found.indices], dim=1), torch.cat([itself, found.similarities], dim=1))


class BestColumns:
    """The best q columns of each row so far. Columns come in the order of their index, so that of equals the first stays."""

    def __init__(self, features: Float[Tensor, "n d"], q: int) -> None:
        n = len(features)
        self.similarities = features.new_full((n, q), -torch.inf)
        self.indices = torch.zeros(n, q, dtype=torch.int64, device=features.device)

    def add(self, rows: slice, columns: slice, groups: Float[Tensor, "R G group"], most: Float[Tensor, "R G"]) -> None:
        """Looks through S of these rows and columns, the columns in groups with their maxima, padded with -inf."""
        r, q = self.similarities[rows].shape
        most = round_(most[:r])  # the maximum of rounded values is the rounded maximum
        limit = self.similarities[rows, -1]  # only what is larger can be among the best q
        if most.shape[1] >= q:  # and nothing below the q-th largest maximum, which q columns reach
            limit = torch.maximum(limit, most.topk(q).values[:, -1].nextafter(limit.new_tensor(-torch.inf)))
        at, group = (most > limit.unsqueeze(1)).nonzero(as_tuple=True)
        if len(at) * CROWDED > most.numel():
            block = round_(groups[:r].reshape(r, -1)[:, : columns.stop - columns.start])
            place = largest(block, min(q, block.shape[1]))
            self._merge(torch.arange(r, device=block.device) + rows.start, block.gather(1, place), place + columns.start)
        elif len(at):
            values = round_(groups[at, group])
            which, inside = (values > limit[at].unsqueeze(1)).nonzero(as_tuple=True)
            there, row, counts = at[which].unique_consecutive(return_inverse=True, return_counts=True)
            position = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
            new = groups.new_full((len(there), int(counts.max())), -torch.inf)
            new[row, position] = values[which, inside]
            index = torch.zeros_like(new, dtype=torch.int64)
            index[row, position] = columns.start + group[which] * GROUP + inside
            self._merge(there + rows.start, new, index)

    def _merge(self, rows: Int[Tensor, " r"], new: Float[Tensor, "r c"], index: Int[Tensor, "r c"]) -> None:
        """Puts what is new behind what is known, whose indices are lower, and keeps the best; of equals the first."""
        similarities = torch.cat([self.similarities[rows], new], dim=1)
        best = largest(similarities, self.indices.shape[1])
        self.similarities[rows] = similarities.gather(1, best)
        self.indices[rows] = torch.cat([self.indices[rows], index], dim=1).gather(1, best)


def _products(rows: Float[Tensor, "r d"], columns: Float[Tensor, "c d"], memory: Float[Tensor, " s"]) -> Float[Tensor, "R C"]:
    """<row, column>, with -inf up to whole groups on both sides, in the same memory every time."""
    (r, c), (height, width) = (len(rows), len(columns)), (-(-len(part) // GROUP) * GROUP for part in (rows, columns))
    block = memory[: height * width].view(height, width)
    torch.mm(rows, columns.T, out=block[:r, :c])
    block[r:] = -torch.inf
    block[:, c:] = -torch.inf
    return block
