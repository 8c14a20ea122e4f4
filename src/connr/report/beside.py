"""What a few seconds would have bought: k-means on pixels, and on histograms of oriented gradients (Dalal & Triggs 2005)."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from connr import metrics
from connr.data.pixels import resized
from connr.kmeans import kmeans
from connr.randomness import stream

SIDE = 32  # pixels that these methods are given at most, and HOG exactly
COMPONENTS = 64
GREY = (0.299, 0.587, 0.114)


class Beside(NamedTuple):
    """A method's scores against the labels, where there are any, its agreement with ConNR's clusters, and what it took."""

    method: str
    scores: dict[str, float] | None
    agreement: dict[str, float] | None
    seconds: float | None


def compare(
    images: UInt8[Tensor, "m c s s"], clusters: Int[Tensor, " m"], labels: Int[Tensor, " m"], n_clusters: int, seed: int
) -> list[Beside]:
    """ConNR and the two methods on the same images; empty where they are fewer than the clusters."""
    if len(images) < n_clusters:
        return []
    rows = [Beside("ConNR", _scores(labels, clusters), None, None)]
    methods: dict[str, Callable[[UInt8[Tensor, "m c s s"]], Float[Tensor, "m d"]]] = {
        "k-means on pixels": pixels,
        "k-means on HOG + PCA": gradients,
    }
    for name, features in methods.items():
        began = time.monotonic()
        found = kmeans(features(images), n_clusters, generator=stream(seed, "beside")).assignments
        seconds = time.monotonic() - began
        agreement = {"nmi": metrics.nmi(clusters, found), "ari": metrics.ari(clusters, found)}
        rows.append(Beside(name, _scores(labels, found), agreement, seconds))
    return rows


def pixels(images: UInt8[Tensor, "m c s s"]) -> Float[Tensor, "m d"]:
    """Values in [0, 1], of pictures no larger than `SIDE`."""
    return resized(images, min(SIDE, images.shape[2])).flatten(1).float() / 255


def gradients(images: UInt8[Tensor, "m c s s"]) -> Float[Tensor, "m d"]:
    """HOG of the grey pictures at `SIDE`, its first principal components."""
    from skimage.feature import hog

    small = resized(images, SIDE).float() / 255
    grey = (small * torch.tensor(GREY).view(3, 1, 1)).sum(dim=1) if small.shape[1] == 3 else small[:, 0]
    found = np.stack([hog(picture, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for picture in grey.numpy()])
    centred = torch.from_numpy(found - found.mean(axis=0)).double()
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors
    reduced: Tensor = centred @ vectors[:, -COMPONENTS:]
    return reduced.float()


def _scores(labels: Int[Tensor, " m"], clusters: Int[Tensor, " m"]) -> dict[str, float] | None:
    return metrics.scores(labels, clusters) if bool((labels >= 0).any()) else None
