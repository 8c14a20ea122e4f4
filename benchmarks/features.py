"""The 64 pixels of the digits as plain rows of numbers: the recipe `features` beside scikit-learn in the same run.

python benchmarks/features.py --seeds 5 [--first-seed 0] [--set KEY=VALUE ...] [--json FILE]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from over_seeds import tell
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from connr import experiment, metrics, recipe, runs
from connr.data import open_for
from connr.data.feature_rows import scaling


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--seeds", type=int, default=5)
    found.add_argument("--first-seed", type=int, default=0)
    found.add_argument("--set", action="append", default=[], help="of the recipe features, as in connr fit")
    found.add_argument("--json", type=Path)
    return found


def main() -> None:
    arguments, digits = parser().parse_args(), load_digits()
    x, rows = digits.data.astype(np.float32), dict[str, list[dict[str, float]]]()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed in seeds:
        reduced = PCA(n_components=30, random_state=seed).fit_transform(x)
        methods = {
            "k-means": lambda seed=seed: KMeans(10, n_init=10, random_state=seed).fit_predict(x),
            "Gaussian mixture on PCA": lambda seed=seed, reduced=reduced: GaussianMixture(
                10, n_init=10, random_state=seed
            ).fit_predict(reduced),
            "ConNR": lambda seed=seed: connr(x, seed, arguments.set),
        }
        for name, method in methods.items():
            began = time.monotonic()
            clusters = method()
            rows.setdefault(name, []).append({**metrics.scores(digits.target, clusters), "seconds": time.monotonic() - began})
        print(f"seed {seed}: " + ", ".join(f"{name} {found[-1]['acc']:.4f}" for name, found in rows.items()), flush=True)

    purities(x, torch.from_numpy(digits.target))
    print(f"\n{len(x):,} rows of {x.shape[1]} numbers,")
    tell(rows, seeds, arguments.json, "ConNR")


def connr(x: np.ndarray, seed: int, settings: list[str]) -> torch.Tensor:
    r = recipe.load("features", settings, clusters=10, seed=seed)
    return runs.fit(r, open_for(r, x)).assigned.clusters


def purities(x: np.ndarray, labels: torch.Tensor) -> None:
    """Prints the share of the neighbours that a row may be mixed with that have its own label."""
    rows = torch.from_numpy(x)
    mean, std = (torch.tensor(one) for one in scaling(rows, by_column=False))
    print("\n| purity of the k nearest | k = 10 | k = 20 | k = 40 |\n|---|---|---|---|")
    for kind in ("euclidean", "local", "contextual"):
        settings = [[f"feature_views.neighbourhood={kind}", f"feature_views.neighbours={k}"] for k in (10, 20, 40)]
        found = [experiment.neighbours_of(recipe.load("features", each))((rows - mean) / std) for each in settings]
        print(f"| {kind} | {' | '.join(f'{metrics.purity(labels, near):.3f}' for near in found)} |")


if __name__ == "__main__":
    main()
