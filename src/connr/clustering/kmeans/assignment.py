"""The nearest centroid of each point, recomputed only where it may have changed.

A point stays with its centroid as long as   upper + drift of it  <  lower - largest drift of any,   where upper and lower
bound the distances to the nearest and the second nearest centroid when these were last computed (Hamerly 2010). Late
iterations move few points: of 69 on 60,000 x 256 points with 200 clusters, 60 moved less than 1 in 100. With the bounds
k-means takes two thirds of the time that it takes without, and finds the same up to ties: a point as near to two centroids as
float32 can tell is compared again in a product of another shape, whose last bits may differ.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.clustering.kmeans.exact import BLOCK

ALL_TOGETHER = 0.5  # the share of the points to look at from which all restarts are one product


def nearest_two(
    points: Float[Tensor, "n d"], centroids: Float[Tensor, "r K d"], squares: Float[Tensor, " n"]
) -> tuple[Int[Tensor, "r n"], Float[Tensor, "r n"], Float[Tensor, "r n"]]:
    """The nearest centroid of each point in each restart, the squared distance to it and to the next; squares = |x|^2.

    Of equally near ones the first; where there is no second, it is infinitely far.
    """
    restarts, n_clusters, _ = centroids.shape
    table, shift = (-2 * centroids.flatten(0, 1).T).contiguous(), centroids.square().sum(dim=2).flatten()
    size = max(1, BLOCK // (restarts * n_clusters))
    scores = torch.empty(min(size, len(points)), len(shift), dtype=points.dtype, device=points.device)  # |c|^2 - 2 <x, c>
    members = torch.empty(restarts, len(points), dtype=torch.int64, device=points.device)
    first, second = (torch.empty(restarts, len(points), dtype=points.dtype, device=points.device) for _ in range(2))
    for at in range(0, len(points), size):
        here = slice(at, at + size)
        rows, square = points[here], squares[here].unsqueeze(1)
        block = torch.addmm(shift, rows, table, out=scores[: len(rows)]).view(len(rows), restarts, n_clusters)
        smallest, index = block.min(dim=2)
        next_one = block.scatter_(2, index.unsqueeze(2), torch.inf).amin(dim=2)
        members[:, here], first[:, here], second[:, here] = index.T, (smallest + square).T, (next_one + square).T
    return members, first.clamp_(min=0), second.clamp_(min=0)


class Assignment:
    """Of the same points to centroids that move from call to call; the same as `nearest_two` each time, up to ties."""

    def __init__(self, points: Float[Tensor, "n d"]) -> None:
        self.points = points
        self.squares = points.square().sum(dim=1)
        self.lengths = self.squares.sqrt()
        self.members: Tensor | None = None  # (R n), as of the last call
        self.upper: Tensor  # (R n), of the distance to the own centroid
        self.lower: Tensor  # (R n), of the distance to any other
        self.centroids: Tensor  # (R K d), of the last call

    def __call__(self, centroids: Float[Tensor, "r K d"], which: Int[Tensor, " r"]) -> Int[Tensor, "r n"]:
        """The members of the restarts `which`, in the first call all."""
        if self.members is None:
            self.centroids = centroids.clone()
            self.members, first, second = nearest_two(self.points, centroids, self.squares)
            self.upper, self.lower = self._bounds(first, second, centroids)
            return self.members
        eps = torch.finfo(self.points.dtype).eps
        drift = (centroids - self.centroids[which]).norm(dim=2) * (1 + centroids.shape[2] * eps)  # (r K)
        self.centroids[which] = centroids
        members = self.members[which]
        upper = (self.upper[which] + drift.gather(1, members)) * (1 + 2 * eps)
        lower = (self.lower[which] - drift.amax(dim=1, keepdim=True)) * (1 - 2 * eps)
        unsure = upper.square() + 2 * self._error(centroids) >= lower.clamp(min=0).square()  # (r n)
        if unsure.float().mean() > ALL_TOGETHER:
            members, first, second = nearest_two(self.points, centroids, self.squares)
            upper, lower = self._bounds(first, second, centroids)
        else:
            for at in range(len(which)):
                rows, one = unsure[at].nonzero().squeeze(1), centroids[at : at + 1]
                found, first, second = nearest_two(self.points[rows], one, self.squares[rows])
                members[at, rows] = found[0]
                first, second = self._bounds(first, second, one, rows)
                upper[at, rows], lower[at, rows] = first[0], second[0]
        self.members[which], self.upper[which], self.lower[which] = members, upper, lower
        return members

    def _error(self, centroids: Float[Tensor, "r K d"], rows: Tensor | slice = slice(None)) -> Float[Tensor, "r n"]:
        """What rounding can do to a squared distance: (d + 4) eps (|x| + |c|)^2, the bound of a sum of d products."""
        eps, longest = torch.finfo(self.points.dtype).eps, centroids.norm(dim=2).amax(dim=1, keepdim=True)
        error: Tensor = (self.lengths[rows] + longest).square() * ((centroids.shape[2] + 4) * eps)
        return error

    def _bounds(
        self, first: Tensor, second: Tensor, centroids: Tensor, rows: Tensor | slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Of the distances, from their squares."""
        error = self._error(centroids, rows)
        return (first + error).sqrt(), (second - error).clamp(min=0).sqrt()
