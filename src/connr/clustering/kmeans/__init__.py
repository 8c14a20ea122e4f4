"""k-means on the device and over ranks, all restarts as one batch: min over C, pi of sum_i |f_i - c_pi(i)|^2.

Own code because the features stay where they are, on their device and on their rank, and because at the same inertia it
takes a fraction of scikit-learn's time (`benchmarks/kmeans.py`).
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.clustering.kmeans.assignment import nearest_two
from connr.clustering.kmeans.exact import column_sums, on_grid, precise
from connr.clustering.kmeans.lloyd import Lloyd
from connr.clustering.kmeans.start import plus_plus
from connr.distributed import SINGLE_PROCESS, Communicator

__all__ = ["Clusters", "kmeans", "nearest_two"]


class Clusters(NamedTuple):
    """What `kmeans` found: centroids (K d), assignments (n) int64 in [0, K), inertia = sum of squared distances."""

    centroids: Float[Tensor, "K d"]
    assignments: Int[Tensor, " n"]
    inertia: float


def kmeans(
    features: Float[Tensor, "n d"],
    n_clusters: int,
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    restarts: int = 10,
    max_iterations: int = 300,
    tolerance: float = 1e-4,
    reseed_empty: bool = True,
    generator: torch.Generator | None = None,
    communicator: Communicator = SINGLE_PROCESS,
) -> Clusters:
    """The best of `restarts` runs of Lloyd's algorithm, each until it has converged; of equally good ones the first.

    A cluster that runs empty is re-seeded at the image farthest from its own centroid.

    Args:
        features: (n d), finite floats; with several ranks, the rows of this one, which may be none.
        n_clusters: K, 1 <= K <= n of all ranks together.
        metric: `cosine` normalises the rows and keeps the centroids on the sphere.
        restarts: independent starts, run together; the lowest inertia wins.
        max_iterations: of Lloyd's algorithm.
        tolerance: a restart ends when its centroids moved less than this times the mean variance of the features.
        reseed_empty: False leaves an empty cluster where it is.
        generator: a CPU generator, in the same state on every rank; None takes a fixed one, so that equal calls give
            equal answers.
        ranks: every one of them calls this, with the same arguments but for the features.

    Returns:
        `Clusters`; with fewer than K distinct points some centroids coincide and stay empty. With several ranks the
        assignments are those of this rank's rows; centroids and inertia are the same on all.

    Raises:
        ValueError: K is not in 1..n, a feature is not finite, or another argument is out of its range. On every rank.
    """
    n_own, width = features.shape
    edges = features.detach().aminmax() if n_own else ()  # NaN, if there is one
    finite = all(bool(edge.isfinite()) for edge in edges)
    n, infinite = communicator.sum(torch.tensor([n_own, not finite], device=features.device)).tolist()
    if not 1 <= n_clusters <= n:
        raise ValueError(f"n_samples={n} should be >= n_clusters={n_clusters} >= 1.")
    if infinite:
        raise ValueError("features hold NaN or infinity; k-means needs finite numbers.")
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric={metric!r} should be 'euclidean' or 'cosine'.")
    if restarts < 1:
        raise ValueError(f"restarts={restarts} should be at least 1.")
    generator = generator or torch.Generator().manual_seed(0)
    points = features.detach()
    points = points if points.dtype == torch.float64 else points.float()
    mean = communicator.sum(column_sums(points)) / n
    offset, scale = torch.zeros_like(mean), 1.0
    if metric == "cosine":
        points = F.normalize(points, dim=1)
        mean = communicator.sum(column_sums(points)) / n
    else:
        offset, mean = mean, offset
        points = points - offset.to(points.dtype)  # centred, |x|^2 - 2<x,c> + |c|^2 loses fewer digits
        largest = torch.stack(points.aminmax()).abs() if n_own else points.new_zeros(2)
        scale = float(communicator.gather(largest).max()) or 1.0
        points.div_(scale)  # squares of very large and very small numbers leave the range of floats
    on_grid(points, n)
    squares = communicator.sum(torch.linalg.vector_norm(points, dim=1).to(precise(points)).square().sum())
    variance = ((squares / n - mean.square().sum()) / width).clamp(min=0)

    centroids = plus_plus(points, n_clusters, restarts, generator, communicator)
    lloyd = Lloyd(points, metric, reseed_empty, communicator)
    running = torch.arange(restarts, device=points.device)
    for _ in range(max_iterations):
        before = centroids[running]
        after = lloyd.step(before, running)
        centroids[running] = after
        running = running[(after - before).square().sum(dim=(1, 2)) > tolerance * variance]
        if not len(running):
            break

    assignments, distances, _ = nearest_two(points, centroids, lloyd.assign.squares)
    inertia = communicator.sum(distances.sum(dim=1, dtype=precise(points)))
    # Restarts that reach the same optimum differ by rounding: the first of them is taken, so that numbers do not depend on it.
    best = int((inertia <= inertia.min() + 4 * torch.finfo(points.dtype).eps * squares).to(torch.int8).argmax())
    return Clusters(centroids[best] * scale + offset.to(points.dtype), assignments[best], float(inertia[best]) * scale**2)
