"""Lloyd's algorithm: each point to its nearest centroid, each centroid to the mean of its points."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.ranks import ALONE, Ranks

BLOCK = 1 << 20  # elements of the (rows x restarts*clusters) score block held at a time: 4 MiB in float32


def assign(points: Float[Tensor, "n d"], centroids: Float[Tensor, "r K d"]) -> tuple[Int[Tensor, "n r"], Float[Tensor, "n r"]]:
    """The nearest centroid of each point in each restart, and the squared distance to it."""
    restarts, n_clusters, _ = centroids.shape
    table, shift = centroids.flatten(0, 1).T, centroids.square().sum(dim=2)
    indices, distances = [], []
    for rows in points.split(max(1, BLOCK // (restarts * n_clusters))):
        scores = (rows @ table).mul_(-2).view(len(rows), restarts, n_clusters).add_(shift)
        smallest, index = scores.min(dim=2)
        indices.append(index)
        distances.append((smallest + rows.square().sum(dim=1, keepdim=True)).clamp_(min=0))
    return torch.cat(indices), torch.cat(distances)


class Lloyd:
    """Every restart over the same points, of which this rank holds some.

    The sums over clusters are kept in fixed point, as integers: these add up to the same bits in any order, on any device
    and any number of ranks, and can follow the few points that change their cluster without ever drifting.
    """

    def __init__(
        self, points: Float[Tensor, "n d"], total: int, metric: str, reseed_empty: bool = True, ranks: Ranks = ALONE
    ) -> None:
        """`points`: numbers in -1..1, the rows of this rank; `total` = the rows of all ranks."""
        self.points, self.metric, self.reseed_empty, self.ranks = points, metric, reseed_empty, ranks
        self.unit = 2.0 ** (62 - math.ceil(math.log2(total)))  # |sum| <= 2^62; of 60,000 points, exact to 2^-46
        self.members: dict[int, Tensor] = {}  # restart -> the cluster of each point, as last summed
        self.sums: dict[int, Tensor] = {}  # restart -> (K, d + 1): of this rank, the last column counts

    def step(self, centroids: Float[Tensor, "r K d"], which: Int[Tensor, " r"]) -> Float[Tensor, "r K d"]:
        """One iteration of the restarts `which`: assign, then the mean of each cluster; the empty re-seeded."""
        assignments, distances = assign(self.points, centroids)
        for at, restart in enumerate(which.tolist()):
            self._follow(restart, assignments[:, at].contiguous(), centroids.shape[1])
        sums = self.ranks.sum(torch.stack([self.sums[restart] for restart in which.tolist()]))
        counts = sums[:, :, -1]
        precise = torch.float32 if sums.device.type == "mps" else torch.float64
        means = sums[:, :, :-1].to(precise) / (counts.clamp(min=1) * self.unit).unsqueeze(2)
        means = means.to(centroids.dtype)
        empty = counts == 0
        for at in empty.any(dim=1).nonzero().flatten().tolist():
            slots = empty[at].nonzero().flatten()
            means[at, slots] = self._farthest(distances[:, at], centroids[at, slots])
        return F.normalize(means, dim=2) if self.metric == "cosine" else means

    def _follow(self, restart: int, now: Int[Tensor, " n"], n_clusters: int) -> None:
        """Brings the sums of one restart up to date, by the points whose cluster is another than before."""
        before = self.members.get(restart)
        if before is None:
            moved = torch.arange(len(now), device=now.device)
            width = self.points.shape[1] + 1
            self.sums[restart] = torch.zeros(n_clusters, width, dtype=torch.int64, device=now.device)
        else:
            moved = (now != before).nonzero().flatten()
        for rows in moved.split(max(1, BLOCK // self.points.shape[1])):
            entries = F.pad((self.points[rows] * self.unit).long(), (0, 1), value=1)
            self.sums[restart].index_add_(0, now[rows], entries)
            if before is not None:
                self.sums[restart].index_add_(0, before[rows], entries, alpha=-1)
        self.members[restart] = now

    def _farthest(self, distances: Float[Tensor, " n"], stay: Float[Tensor, "e d"]) -> Float[Tensor, "e d"]:
        """The points of all ranks that are farthest from their centroids; where these are at distance 0, `stay`."""
        far, order = distances.sort(descending=True, stable=True)
        rows = self.points[order[: len(stay)]]
        far, order = self.ranks.gather(far[: len(stay)]).sort(descending=True, stable=True)
        points = self.ranks.gather(rows)[order[: len(stay)]]
        movable = (far[: len(stay)].unsqueeze(1) > 0) & self.reseed_empty
        return torch.where(movable, points, stay)
