"""Rows with the same numbers: their similarities to others are equal, whatever the last bits of their products."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 4096  # whose lists are expanded at a time


def first_of_equals(features: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """The index of the first row with the same numbers as each row; found without waiting for a GPU."""
    rows = features.detach().contiguous() + 0.0  # + 0.0 turns -0.0 into 0.0
    rows = rows if rows.dtype == torch.float64 else rows.float()
    bits = rows.view(torch.int64 if rows.dtype == torch.float64 else torch.int32).to(torch.int64)
    factors = torch.arange(1, 2 * rows.shape[1], 2, device=rows.device) * 0x9E3779B97F4A7C1  # odd; products wrap around
    keys, order = (bits * factors).sum(dim=1).sort(stable=True)
    places = torch.arange(len(rows), device=rows.device)
    starts = torch.cat([keys.new_ones(1, dtype=torch.bool), keys[1:] != keys[:-1]])
    first = torch.empty_like(order).scatter_(0, order, order[torch.where(starts, places, 0).cummax(0).values])
    return torch.where((rows == rows[first]).all(dim=1), first, places)  # two rows may have the same key by chance


def expanded(
    first: Int[Tensor, " n"], indices: Int[Tensor, "u q"], similarities: Float[Tensor, "u q"], m: int
) -> tuple[Int[Tensor, "n m"], Float[Tensor, "n m"]]:
    """The m nearest of all rows, from the nearest of the different ones; itself first, ties by index.

    Args:
        first: as `first_of_equals` gives it.
        indices: of the u different rows, in order of their first index; the q = min(m, u) nearest of each, itself among them.
        similarities: of these, that of a row to itself as to its copies.
        m: 1 <= m <= n.
    """
    n, device = len(first), first.device
    group = first.unique(return_inverse=True)[1]  # of each row
    counts = group.bincount()
    members = torch.full((len(counts), int(counts.max().clamp(max=m))), n, device=device)  # by index; n where there is none
    order = group.argsort(stable=True)
    place = torch.arange(n, device=device) - (counts.cumsum(0) - counts)[group[order]]
    kept = place < members.shape[1]
    members[group[order[kept]], place[kept]] = order[kept]
    lists, scores = [], []
    for near, score in zip(indices.split(ROWS), similarities.split(ROWS), strict=True):
        rows = members[near].flatten(1).sort(dim=1)
        score = score.unsqueeze(2).expand(-1, -1, members.shape[1]).flatten(1).gather(1, rows.indices)
        score = score.masked_fill(rows.values == n, -torch.inf).sort(dim=1, descending=True, stable=True)
        lists.append(rows.values.gather(1, score.indices[:, :m]))
        scores.append(score.values[:, :m])
    found, score = torch.cat(lists)[group], torch.cat(scores)[group]
    itself = found == torch.arange(n, device=device).unsqueeze(1)
    itself[~itself.any(dim=1), -1] = True  # the last one is replaced by the row itself
    anchors = torch.arange(n, device=device).unsqueeze(1)
    return (
        torch.cat([anchors, found[~itself].view(n, m - 1)], dim=1),
        torch.cat([torch.ones_like(score[:, :1]), score[~itself].view(n, m - 1)], dim=1),
    )
