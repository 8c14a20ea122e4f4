"""Simple baselines: k-means on pixels and on histograms of oriented gradients (Dalal & Triggs 2005)."""

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from connr import metrics
from connr.clustering.kmeans import kmeans
from connr.data.pixels import crop_and_resize
from connr.randomness import derive, stream

SIDE = 32  # largest side of the images of these methods; HOG enlarges smaller ones
COMPONENTS = 64
AT_A_TIME = 500  # pictures converted to floats together
GREY = (0.299, 0.587, 0.114)


class Baselines(NamedTuple):
    """The scores of a method against the labels, if any, its agreement with ConNR's clusters, and its time."""

    method: str
    scores: dict[str, float] | None
    agreement: dict[str, float] | None
    seconds: float | None


def compare(
    images: Tensor,
    clusters: Int[Tensor, " m"],
    labels: Int[Tensor, " m"],
    n_clusters: int,
    seed: int,
    of_backbone: Float[Tensor, "m f"] | None = None,
) -> list[Baselines]:
    """ConNR and simple methods on the same images; empty if there are fewer images than clusters.

    Args:
        images: (m c s s) uint8, at most `SIDE` pixels a side; or rows of features (m d).
        of_backbone: the features of a frozen backbone, the input of ConNR's heads.
    """
    if len(images) < n_clusters:
        return []
    rows = [Baselines("ConNR", _scores(labels, clusters), None, None)]

    def means(features: Callable[[], Float[Tensor, "m d"]]) -> Tensor:
        return kmeans(features(), n_clusters, generator=stream(seed, "beside")).assignments

    methods: dict[str, Callable[[], Tensor]]
    if images.ndim == 2:
        methods = {
            "k-means on the features": lambda: means(lambda: images),
            "Gaussian mixture on their PCA": lambda: mixture(images, n_clusters, seed),
        }
    else:
        methods = {
            "k-means on pixels": lambda: means(lambda: pixels(images)),
            "k-means on HOG + PCA": lambda: means(lambda: gradients(images)),
        }
    if of_backbone is not None:
        methods["k-means on the backbone's features"] = lambda: means(lambda: of_backbone.cpu())
    for name, method in methods.items():
        began = time.monotonic()
        found = method()
        seconds = time.monotonic() - began
        agreement = {"nmi": metrics.nmi(clusters, found), "ari": metrics.ari(clusters, found)}
        rows.append(Baselines(name, _scores(labels, found), agreement, seconds))
    return rows


def pixels(images: UInt8[Tensor, "m c s s"]) -> Float[Tensor, "m d"]:
    """Values in [0, 1]."""
    return images.flatten(1).float().div_(255)


def gradients(images: UInt8[Tensor, "m c s s"]) -> Float[Tensor, "m d"]:
    """The first principal components of HOG of the grey pictures at `SIDE` pixels."""
    from skimage.feature import hog

    found = np.stack(
        [
            hog(picture, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
            for part in images.split(AT_A_TIME)
            for picture in grey(crop_and_resize(part, SIDE).float().div_(255)).numpy()
        ]
    )
    centred = torch.from_numpy(found - found.mean(axis=0)).double()
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors
    reduced: Tensor = centred @ vectors[:, -COMPONENTS:]
    return reduced.float()


def grey(images: Float[Tensor, "m c s s"]) -> Float[Tensor, "m s s"]:
    return (images * torch.tensor(GREY).view(3, 1, 1)).sum(dim=1) if images.shape[1] == 3 else images[:, 0]


def mixture(rows: Float[Tensor, "m d"], n_clusters: int, seed: int) -> Int[Tensor, " m"]:
    """Clusters of a Gaussian mixture on the first 30 principal components, by scikit-learn."""
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    state = derive(seed, "beside") % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about equal rows, or no convergence in 100 iterations
        reduced = PCA(min(30, *rows.shape), random_state=state).fit_transform(rows.double().numpy())
        spread = max(1e-12, float(reduced.var(axis=0).mean()))
        fitted = GaussianMixture(n_clusters, random_state=state, reg_covar=1e-6 * spread)
        return torch.from_numpy(fitted.fit_predict(reduced))


def _scores(labels: Int[Tensor, " m"], clusters: Int[Tensor, " m"]) -> dict[str, float] | None:
    return metrics.scores(labels, clusters) if bool((labels >= 0).any()) else None
