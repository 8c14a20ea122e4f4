"""The map: features projected to a plane by t-SNE (van der Maaten & Hinton 2008)."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from connr.randomness import derive, stream

MOST_POINTS = 5000
COMPONENTS = 30  # principal components given to t-SNE, which then takes a third of the time
ITERATIONS = 500  # half of scikit-learn's default; clusters are separated by then
GRID = 10_000  # coordinates are integers below this


def drawn(n: int, seed: int) -> Int[Tensor, " m"]:
    """The sorted indices of the images on the map: all, or `MOST_POINTS` at random."""
    return torch.randperm(n, generator=stream(seed, "map"))[:MOST_POINTS].sort().values


def coordinates(features: Float[Tensor, "m d"], seed: int) -> Int[Tensor, "m 2"]:
    """Integer coordinates 0..GRID on the plane; both axes have the same scale."""
    from sklearn.manifold import TSNE

    points = _principal(features.double().cpu().numpy())
    if len(points) > 4 and points[:, 0].std() > 1e-9:  # else there is nothing to project
        start = points[:, :2] / points[:, 0].std() * 1e-4
        if start.shape[1] < 2:
            start = np.hstack([start, np.zeros_like(start)])
        unfold = TSNE(
            perplexity=min(30.0, (len(points) - 1) / 3),
            init=start.astype(np.float32),
            max_iter=ITERATIONS,
            random_state=derive(seed, "map") % 2**32,
        )
        points = unfold.fit_transform(points.astype(np.float32)).astype(np.float64)
    plane = np.zeros((len(points), 2))
    plane[:, : min(2, points.shape[1])] = points[:, :2]
    low, high = plane.min(axis=0), plane.max(axis=0)
    scale = GRID / max(float((high - low).max()), 1e-9)
    middle = (low + high) / 2
    return torch.from_numpy(np.clip(((plane - middle) * scale + GRID / 2).round(), 0, GRID)).long()


def _principal(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first principal components, by the covariance: features have few hundred dimensions, and signs are fixed."""
    centred = features - features.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    kept = vectors[:, ::-1][:, :COMPONENTS]
    kept = kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])])
    found: NDArray[np.float64] = centred @ kept
    return found
