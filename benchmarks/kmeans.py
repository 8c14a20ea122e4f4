"""k-means: ours against scikit-learn's on the same tensor, turn about in one run; ratios and inertia.

python benchmarks/kmeans.py [--rounds 5] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from sklearn.cluster import KMeans

from connr.kmeans import kmeans

SIZES = ((1_797, 128, 10), (10_000, 256, 10), (10_000, 256, 100), (60_000, 256, 10))


def features(n: int, d: int, k: int) -> torch.Tensor:
    """Points on the sphere around 2 k directions, so that clusters are there and overlap."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2 * k, d, generator=generator)
    points = centres[torch.randint(2 * k, (n,), generator=generator)] + 1.5 * torch.randn(n, d, generator=generator)
    return torch.nn.functional.normalize(points, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = []
    for n, d, k in SIZES:
        x, ratios, inertia = features(n, d, k), [], []
        array = x.numpy()
        for seed in range(arguments.rounds):
            began = time.perf_counter()
            ours = kmeans(x, k, generator=torch.Generator().manual_seed(seed))
            middle = time.perf_counter()
            theirs = KMeans(k, n_init=10, random_state=seed).fit(array)
            end = time.perf_counter()
            ratios.append((end - middle) / (middle - began))
            inertia.append(ours.inertia / theirs.inertia_)
        row = {"n": n, "d": d, "k": k, "times_faster": statistics.median(ratios), "inertia_ratio": statistics.median(inertia)}
        report.append(row)
        spread = f"{min(ratios):.1f}-{max(ratios):.1f}"
        print(
            f"{n:,} x {d}, {k} clusters: {row['times_faster']:.1f}x scikit-learn ({spread}),"
            f" inertia x {row['inertia_ratio']:.4f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
