"""ConNR on the features of a frozen backbone, beside k-means, a Gaussian mixture and spectral clustering on the same ones.

No weights are downloaded: the backbone is BYOL of connr's own on one half of the classes, and the other half is clustered.

python benchmarks/pretrained.py --data fashion-mnist.npz --seeds 5 [--first-seed 0] [--per-class 1000] [--epochs 20]
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from over_seeds import tell
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from connr import metrics, recipe, runs
from connr.data import ImageSet, open_images
from connr.run_folder import RunFolder


def half(whole: ImageSet, classes: list[int], per_class: int) -> ImageSet:
    """The first `per_class` images of each of these classes, under labels 0, 1, ..."""
    rows = torch.cat([(whole.labels == label).nonzero().flatten()[:per_class] for label in classes]).sort().values
    labels = torch.tensor([classes.index(int(label)) for label in whole.labels[rows]])
    return replace(whole, images=whole.images[rows], names=[str(int(i)) for i in rows], labels=labels, class_names=[])


def backbone(images: ImageSet, seed: int, epochs: int, folder: RunFolder) -> None:
    """BYOL on the images of the one half, into a run folder."""
    settings = [f"train.epochs={epochs}", "method.start=1", "train.evaluate_every=0"]
    runs.fit(recipe.load("fashion-mnist", settings, clusters=5, seed=seed), images, folder)


def others(features: np.ndarray, k: int, seed: int) -> dict[str, Callable[[], np.ndarray]]:
    """As a user of scikit-learn would call them."""
    reduced = PCA(n_components=min(30, features.shape[1]), random_state=seed)
    return {
        "k-means": lambda: KMeans(k, n_init=10, random_state=seed).fit_predict(features),
        "Gaussian mixture on PCA": lambda: GaussianMixture(k, n_init=3, random_state=seed).fit_predict(
            reduced.fit_transform(features)
        ),
        "spectral clustering": lambda: SpectralClustering(
            k, affinity="nearest_neighbors", n_neighbors=10, random_state=seed
        ).fit_predict(features),
    }


def one_seed(pretrain: ImageSet, rest: ImageSet, seed: int, epochs: int, settings: list[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        former = RunFolder(Path(place) / "backbone")
        backbone(pretrain, seed, epochs, former)
        r = recipe.load(
            "pretrained",
            [f"backbone.model=run:{former.path}", "data.size=28", "data.channels=1", *GREY, *settings],
            clusters=5,
            seed=seed,
        )
        began = time.monotonic()
        fitted = runs.fit(r, rest)
        whole = time.monotonic() - began
        features = fitted.model.through_backbone(rest.images).numpy()
        for name, method in others(features, 5, seed).items():
            began = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # spectral clustering of a graph in several parts
                clusters = method()
            found[name] = {**metrics.scores(rest.labels, clusters), "seconds": time.monotonic() - began}
        found["ConNR, frozen"] = {**metrics.scores(rest.labels, fitted.assigned.clusters), "seconds": whole}
    return found


GREY = ["augment.crop_scale=[0.4,1]", "augment.jitter=[0.4,0.4,0,0]", "augment.grey_probability=0"]  # as in fashion-mnist


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", required=True, help="an .npz with images and labels of ten classes")
    found.add_argument("--seeds", type=int, default=5)
    found.add_argument("--first-seed", type=int, default=0)
    found.add_argument("--per-class", type=int, default=1000)
    found.add_argument("--epochs", type=int, default=20, help="of the backbone")
    found.add_argument("--set", action="append", default=[], help="of the recipe pretrained, as in connr fit")
    found.add_argument("--json", type=Path)
    return found


def main() -> None:
    arguments = parser().parse_args()
    whole = open_images(arguments.data, 28, 1)
    pretrain, rest = (half(whole, classes, arguments.per_class) for classes in ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9]))
    rows: dict[str, list[dict[str, float]]] = {}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed in seeds:
        found = one_seed(pretrain, rest, seed, arguments.epochs, arguments.set)
        for name, scores in found.items():
            rows.setdefault(name, []).append(scores)
        print(f"seed {seed}: " + ", ".join(f"{name} {scores['acc']:.4f}" for name, scores in found.items()), flush=True)

    print(f"\nbackbone on {len(pretrain):,} images of the even classes, {len(rest):,} of the odd ones clustered;")
    tell(rows, seeds, arguments.json, "ConNR, frozen")


if __name__ == "__main__":
    main()
