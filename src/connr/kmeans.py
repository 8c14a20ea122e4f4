"""k-means on the device, all restarts as one batched computation: min over C, pi of sum_i |f_i - c_pi(i)|^2.

Own code because it leaves the features on their device, and takes a third to a fifth of scikit-learn's time on 2 cores at
the same inertia (`benchmarks/kmeans.py`).
Start: greedy k-means++ (Arthur & Vassilvitskii 2007, the variant with several candidates a round).
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.ranks import ALONE, Ranks

BLOCK = 1 << 22  # elements of the (rows x restarts*clusters) score block held at a time: 16 MiB in float32


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
    ranks: Ranks = ALONE,
) -> Clusters:
    """The best of `restarts` runs of Lloyd's algorithm.

    A cluster that runs empty is re-seeded at the image farthest from its own centroid.

    Args:
        features: (n d), finite floats.
        n_clusters: K, 1 <= K <= n.
        metric: `cosine` normalises the rows and keeps the centroids on the sphere.
        restarts: independent starts, run together; the lowest inertia wins.
        max_iterations: of Lloyd's algorithm.
        tolerance: a restart ends when its centroids moved less than this times the mean variance of the features.
        reseed_empty: False leaves an empty cluster where it is.
        generator: a CPU generator; None takes a fixed one, so that equal calls give equal answers.

    Returns:
        `Clusters`; with fewer than K distinct points some centroids coincide and stay empty.

    Raises:
        ValueError: K is not in 1..n, a feature is not finite, or another argument is out of its range.
    """
    n = len(features)
    if not 1 <= n_clusters <= n:
        raise ValueError(f"n_samples={n} should be >= n_clusters={n_clusters} >= 1.")
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity; k-means needs finite numbers.")
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric={metric!r} should be 'euclidean' or 'cosine'.")
    if restarts < 1:
        raise ValueError(f"restarts={restarts} should be at least 1.")
    generator = generator or torch.Generator().manual_seed(0)
    points = features.detach()
    points = points if points.dtype == torch.float64 else points.float()
    offset, scale = torch.zeros_like(points[0]), 1.0
    if metric == "cosine":
        points = F.normalize(points, dim=1)
    else:
        offset = points.mean(dim=0)  # centred, |x|^2 - 2<x,c> + |c|^2 loses fewer digits
        points = points - offset
        scale = float(points.abs().max()) or 1.0  # squares of very large and very small numbers leave the range of floats
        points = points / scale

    centroids = plus_plus(points, n_clusters, restarts, generator)
    threshold = tolerance * points.var(dim=0, unbiased=False).mean()
    running = torch.arange(restarts, device=points.device)
    for _ in range(max_iterations):
        before = centroids[running]
        after = recompute(points, before, metric, reseed_empty)
        centroids[running] = after
        running = running[(after - before).square().sum(dim=(1, 2)) > threshold]
        if not len(running):
            break

    assignments, distances = assign(points, centroids)
    best = int(distances.sum(dim=0).argmin())
    return Clusters(centroids[best] * scale + offset, assignments[:, best], float(distances[:, best].sum()) * scale**2)


def plus_plus(
    points: Float[Tensor, "n d"], n_clusters: int, restarts: int, generator: torch.Generator
) -> Float[Tensor, "r K d"]:
    """Greedy k-means++: each next centre is the best of 2 + ln K candidates drawn with probability ~ squared distance."""
    n, candidates = len(points), 2 + int(math.log(n_clusters))
    squared = points.square().sum(dim=1)

    def distances_to(chosen: Tensor) -> Tensor:  # (...) indices -> (n ...) squared distances
        flat = chosen.flatten()
        block = squared.unsqueeze(1) - 2 * points @ points[flat].T + squared[flat]
        block[flat, torch.arange(len(flat), device=flat.device)] = 0  # of a point to itself, free of rounding
        return block.clamp_(min=0).view(n, *chosen.shape)

    precise = torch.float32 if points.device.type == "mps" else torch.float64  # MPS has no doubles

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(points.device, precise)

    chosen = (draw(restarts) * n).long().clamp(max=n - 1).unsqueeze(1)
    nearest = distances_to(chosen[:, 0])
    for _ in range(1, n_clusters):
        mass = nearest.T.to(precise).cumsum(dim=1)
        mass = torch.where(mass[:, -1:] > 0, mass, torch.arange(1.0, n + 1, device=mass.device, dtype=mass.dtype))
        trial = torch.searchsorted(mass, draw(restarts, candidates) * mass[:, -1:], right=True).clamp(max=n - 1)
        reached = torch.minimum(nearest.unsqueeze(2), distances_to(trial))
        winner = reached.sum(dim=0).argmin(dim=1)
        nearest = reached[:, torch.arange(restarts, device=winner.device), winner]
        chosen = torch.cat([chosen, trial.gather(1, winner.unsqueeze(1))], dim=1)
    return points[chosen]


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


def recompute(
    points: Float[Tensor, "n d"], centroids: Float[Tensor, "r K d"], metric: str, reseed_empty: bool = True
) -> Float[Tensor, "r K d"]:
    """One iteration of Lloyd's algorithm in every restart: assign, then the mean of each cluster; the empty re-seeded."""
    restarts, n_clusters, width = centroids.shape
    assignments, distances = assign(points, centroids)
    sums = torch.zeros_like(centroids).view(-1, width)
    counts = torch.zeros(restarts * n_clusters, dtype=points.dtype, device=points.device)
    slots = assignments + n_clusters * torch.arange(restarts, device=points.device)
    for rows, slot in zip(*(t.split(max(1, BLOCK // len(counts))) for t in (points, slots)), strict=True):
        # A product with the one-hot matrix: on every device the sum is taken in the same order each time.
        one_hot = torch.zeros(len(rows), len(counts), dtype=points.dtype, device=points.device).scatter_(1, slot, 1.0)
        sums += one_hot.T @ rows
        counts += one_hot.sum(dim=0)
    means = (sums / counts.clamp(min=1).unsqueeze(1)).view_as(centroids)
    counts = counts.view(restarts, n_clusters)
    for restart in (counts == 0).any(dim=1).nonzero().flatten().tolist():
        empty = (counts[restart] == 0).nonzero().flatten()
        farthest = distances[:, restart].topk(len(empty))
        movable = (farthest.values.unsqueeze(1) > 0) & reseed_empty
        means[restart, empty] = torch.where(movable, points[farthest.indices], centroids[restart, empty])
    return F.normalize(means, dim=2) if metric == "cosine" else means
