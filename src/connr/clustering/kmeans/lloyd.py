"""Lloyd's algorithm: each point to its nearest centroid, each centroid to the mean of its points."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.clustering.kmeans.assignment import Assignment, nearest_two
from connr.clustering.kmeans.exact import BLOCK, precise, rounding
from connr.distributed import SINGLE_PROCESS, Communicator


class Lloyd:
    """Every restart over the same points, of which this rank holds some.

    The sums over clusters are kept from iteration to iteration and follow the few points that change their cluster. They
    never drift: the points are rounded to a grid on which doubles add up exactly, so in any order, on any number of ranks,
    the sums have the same bits.
    """

    def __init__(
        self, points: Float[Tensor, "n d"], metric: str, reseed_empty: bool = True, communicator: Communicator = SINGLE_PROCESS
    ) -> None:
        """`points`: on the grid, the rows of this rank."""
        self.points, self.metric, self.reseed_empty, self.communicator = points, metric, reseed_empty, communicator
        self.assign = Assignment(points)
        self.sums: Tensor  # (R K d), and (R K) counts, of this rank
        self.counts: Tensor

    def step(self, centroids: Float[Tensor, "r K d"], which: Int[Tensor, " r"]) -> Float[Tensor, "r K d"]:
        """One iteration of the restarts `which`, in the first call all: assign, then the mean of each cluster."""
        before = None if self.assign.members is None else self.assign.members[which]
        assignments = self.assign(centroids, which)
        if before is None:
            shape = (*centroids.shape[:2], self.points.shape[1])
            self.sums, self.counts = (self.points.new_zeros(size, dtype=precise(self.points)) for size in (shape, shape[:2]))
            self._sum_up(assignments, which)
        elif precise(self.points) == torch.float32:  # without doubles following would drift
            self._sum_up(assignments, which)
        else:
            self._follow(before, assignments, which)
        sums = torch.cat([self.sums[which], self.counts[which].unsqueeze(2)], dim=2)
        sums, counts = self.communicator.sum(sums).split([centroids.shape[2], 1], dim=2)
        means = (sums / counts.clamp(min=1)).to(centroids.dtype)
        empty = counts.squeeze(2) == 0
        for at in empty.any(dim=1).nonzero().flatten().tolist():
            slots = empty[at].nonzero().flatten()
            _, distances, _ = nearest_two(self.points, centroids[at : at + 1], self.assign.squares)
            means[at, slots] = self._farthest(distances[0], centroids[at, slots])
        return F.normalize(means, dim=2) if self.metric == "cosine" else means

    def _sum_up(self, assignments: Int[Tensor, "r n"], which: Int[Tensor, " r"]) -> None:
        """The sums over all points."""
        self.sums[which], self.counts[which] = 0, 0
        size = max(1, BLOCK // self.points.shape[1])
        for rows, slots in zip(self.points.split(size), assignments.split(size, dim=1), strict=True):
            entries = rows.to(precise(self.points))
            for restart, clusters in zip(which.tolist(), slots, strict=True):
                self.sums[restart].index_add_(0, clusters, entries)
                self.counts[restart] += clusters.bincount(minlength=self.counts.shape[1])

    def _follow(self, before: Int[Tensor, "r n"], now: Int[Tensor, "r n"], which: Int[Tensor, " r"]) -> None:
        """Moves the points whose cluster is another than before from the one sum to the other."""
        sums, counts = self.sums.flatten(0, 1), self.counts.flatten()
        at, row = (now != before).nonzero(as_tuple=True)
        restart, to = which[at], now[at, row]
        away, to = before[at, row] + self.sums.shape[1] * restart, to + self.sums.shape[1] * restart
        size = max(1, BLOCK // self.points.shape[1])
        for rows, old, new in zip(row.split(size), away.split(size), to.split(size), strict=True):
            entries = self.points.index_select(0, rows).to(precise(self.points))
            sums.index_add_(0, new, entries).index_add_(0, old, entries, alpha=-1)
        counts += to.bincount(minlength=len(counts)) - away.bincount(minlength=len(counts))

    def _farthest(self, distances: Float[Tensor, " n"], stay: Float[Tensor, "e d"]) -> Float[Tensor, "e d"]:
        """The points of all ranks that are farthest from their centroids; where these are at distance 0, `stay`.

        A distance that rounding alone can make is 0: else a copy of a centroid would be taken for another place.
        """
        distances = torch.where(distances <= rounding(self.assign.squares), 0, distances)
        far, order = distances.sort(descending=True, stable=True)
        rows = self.points[order[: len(stay)]]
        far, order = self.communicator.gather(far[: len(stay)]).sort(descending=True, stable=True)
        points = self.communicator.gather(rows)[order[: len(stay)]]
        movable = (far[: len(stay)].unsqueeze(1) > 0) & self.reseed_empty
        return torch.where(movable, points, stay)
