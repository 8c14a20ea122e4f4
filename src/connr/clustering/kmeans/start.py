"""Greedy k-means++ (Arthur & Vassilvitskii 2007, the variant with several candidates a round), all restarts together."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from connr.clustering.kmeans.exact import BLOCK, precise, rounding
from connr.distributed import SINGLE_PROCESS, Communicator


def plus_plus(
    points: Float[Tensor, "n d"],
    n_clusters: int,
    restarts: int,
    generator: torch.Generator,
    communicator: Communicator = SINGLE_PROCESS,
) -> Float[Tensor, "r K d"]:
    """Each next centre is the best of 2 + ln K candidates drawn with probability ~ squared distance to the nearest so far.

    The points are the rows of this rank; the draws, and what is returned, are the same on every rank.
    """
    n, candidates = len(points), 2 + int(math.log(n_clusters))
    device = points.device
    double = precise(points)
    squared = points.square().sum(dim=1)
    squared -= rounding(squared)  # so that a copy of a centre is at distance 0, and never drawn for what rounding leaves
    sizes = communicator.gather(torch.full((1, 1), n, dtype=double, device=device))  # (ranks 1)
    each = torch.arange(restarts, device=device)

    def draw(nearest: Tensor, totals: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Of the masses nearest (r n) here and totals (ranks r), `count` rows a restart: here (r c), index (r c)."""
        share = torch.rand(restarts, count, generator=generator, dtype=torch.float64).to(device, double)
        spent = totals.sum(dim=0) == 0  # no point is off the centres: draw any
        ends = torch.where(spent, sizes, totals).cumsum(dim=0)
        at = share * (ends[-1] * (1 - torch.finfo(double).eps)).unsqueeze(1)  # below the last end, whatever the rounding
        owner = (ends.unsqueeze(2) <= at).sum(dim=0)
        mass = nearest.to(double).cumsum(dim=1)
        mass = torch.where(spent.unsqueeze(1), torch.arange(1, n + 1, device=device, dtype=double), mass)
        before = ends[communicator.rank - 1].unsqueeze(1) if communicator.rank else 0
        return owner == communicator.rank, torch.searchsorted(mass, at - before, right=True).clamp(max=max(n - 1, 0))

    def reach(nearest: Tensor, here: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The drawn points (r c d), the squared distances to the nearest with each (r c n), and their sums (r c)."""
        drawn = torch.zeros(*index.shape, points.shape[1], dtype=points.dtype, device=device)
        drawn[here] = points[index[here]]
        drawn = communicator.sum(drawn)
        rows = drawn.flatten(0, 1)
        reached = torch.mm(rows, points.T, out=buffer[: len(rows)]).mul_(-2)
        reached = reached.add_(rows.square().sum(dim=1, keepdim=True)).add_(squared).view(*index.shape, n)
        reached[(*here.nonzero(as_tuple=True), index[here])] = 0  # of a point to itself, free of rounding
        torch.clamp(reached, torch.zeros_like(squared), nearest.unsqueeze(1), out=reached)
        sums = sum(block.to(double).sum(dim=2) for block in reached.split(BLOCK // len(rows), dim=2))
        return drawn, reached, sums

    totals = torch.zeros(communicator.count, restarts, dtype=double, device=device)
    buffer = torch.empty(restarts * candidates, n, dtype=points.dtype, device=device)
    nearest, chosen = torch.full((restarts, n), torch.inf, dtype=points.dtype, device=device), []
    for at in range(n_clusters):
        here, index = draw(nearest, totals, candidates if at else 1)
        drawn, reached, sums = reach(nearest, here, index)
        potentials = communicator.gather(sums.unsqueeze(0))  # (ranks r c)
        winner = potentials.sum(dim=0).argmin(dim=1)
        nearest, totals = reached[each, winner], potentials[:, each, winner]
        chosen.append(drawn[each, winner])
    return torch.stack(chosen, dim=1)
