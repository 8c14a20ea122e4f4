"""`connr demo`: ConNR and methods of scikit-learn on the same images, in one table."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connr import metrics, recipe, runs
from connr.data import ImageSet, open_images
from connr.engine import Callback, checkpoint
from connr.recipe import Recipe
from connr.run_folder import RunFolder


class DemoRow(NamedTuple):
    """The scores of a method on the digits and its time in seconds."""

    method: str
    acc: float
    nmi: float
    ari: float
    seconds: float


def load(r: Recipe) -> ImageSet:
    """The 1,797 digits of scikit-learn, at the size and channels of the recipe."""
    return open_images("digits", r.data.size, r.data.channels)


def baselines(images: ImageSet, n_clusters: int, seed: int) -> Iterator[DemoRow]:
    """k-means on pixels, Ward, and a Gaussian mixture on principal components, by scikit-learn."""
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    pixels = images.images[:].flatten(1).numpy() / 255.0

    def mixture(x: NDArray[np.float64]) -> NDArray[np.integer]:
        reduced = PCA(n_components=30, random_state=seed).fit_transform(x)  # improves the mixture, which can reach 0.92
        assignments: NDArray[np.integer] = GaussianMixture(n_clusters, n_init=10, random_state=seed).fit_predict(reduced)
        return assignments

    methods: dict[str, Callable[[NDArray[np.float64]], NDArray[np.integer]]] = {
        "k-means on pixels": KMeans(n_clusters, n_init=10, random_state=seed).fit_predict,
        "Ward on pixels": AgglomerativeClustering(n_clusters).fit_predict,
        "Gaussian mixture on PCA": mixture,
    }
    for name, method in methods.items():
        began = time.monotonic()
        assignments = method(pixels)
        yield _row(name, images, assignments, time.monotonic() - began)


def connr(r: Recipe, images: ImageSet, folder: RunFolder, device: str, callback: Callback) -> tuple[DemoRow, runs.Fitted]:
    """Trains ConNR and writes a run folder."""
    began = time.monotonic()
    fitted = runs.fit(r, images, folder, device=device, callback=callback)
    return _row("ConNR", images, fitted.assigned.clusters.numpy(), time.monotonic() - began), fitted


def byol_alone(r: Recipe, images: ImageSet, folder: RunFolder, device: str, callback: Callback) -> DemoRow:
    """The same recipe without stage 2. Continues from ConNR's checkpoint at the end of stage 1, which is identical."""
    alone = recipe.load(r, ["method.start=1"])
    shared = sum(record["seconds"] for record in runs.history(folder) if record["stage"] == "instance")
    began = time.monotonic()
    t0 = round(getattr(r.method, "start", 1) * r.train.epochs)
    end_of_stage_1: Path | None = checkpoint.after(folder.checkpoints, t0) if t0 else None
    fitted = runs.fit(alone, images, start_from=end_of_stage_1, device=device, callback=callback)
    return _row("BYOL alone", images, fitted.assigned.clusters.numpy(), shared + time.monotonic() - began)


def _row(method: str, images: ImageSet, assignments: NDArray[np.integer], seconds: float) -> DemoRow:
    found = metrics.scores(images.labels, assignments)
    return DemoRow(method, found["acc"], found["nmi"], found["ari"], seconds)
