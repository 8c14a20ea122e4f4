"""k-means: ours against scikit-learn's and faiss's on the same tensor, turn about in one run; ratios of times and of inertia.

All take 10 starts and all threads of torch. scikit-learn runs as it comes: greedy k-means++, until it has converged. faiss
runs on all points (its default is a sample), from random points, for its 25 iterations: it has no test of convergence.

python benchmarks/kmeans.py [--rounds 3] [--sizes 60000x256x10 60000x256x200] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from sklearn.cluster import KMeans

from connr.clustering.kmeans import kmeans

SIZES = ("1797x128x10", "10000x256x10", "10000x256x100", "60000x256x10", "60000x256x200")
RESTARTS = 10


def features(n: int, d: int, k: int) -> torch.Tensor:
    """Points on the sphere around 2 k directions, so that clusters are there and overlap."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2 * k, d, generator=generator)
    points = centres[torch.randint(2 * k, (n,), generator=generator)] + 1.5 * torch.randn(n, d, generator=generator)
    return torch.nn.functional.normalize(points, dim=1)


def ours(x: torch.Tensor, k: int, seed: int) -> float:
    return kmeans(x, k, restarts=RESTARTS, generator=torch.Generator().manual_seed(seed)).inertia


def scikit_learn(x: torch.Tensor, k: int, seed: int) -> float:
    return float(KMeans(k, n_init=RESTARTS, random_state=seed).fit(x.numpy()).inertia_)


def by_faiss(x: torch.Tensor, k: int, seed: int) -> float:
    array = x.numpy()
    found = faiss.Kmeans(x.shape[1], k, nredo=RESTARTS, seed=seed, max_points_per_centroid=len(x), min_points_per_centroid=1)
    found.train(array)
    return float(np.sum(found.index.search(array, 1)[0], dtype=np.float64))


PEERS = {"scikit-learn": scikit_learn, "faiss": by_faiss}


def timed(search, *arguments) -> tuple[float, float]:
    began = time.perf_counter()
    inertia = search(*arguments)
    return time.perf_counter() - began, inertia


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="NxDxK")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(torch.get_num_threads())
    report = []
    for size in arguments.sizes:
        n, d, k = map(int, size.split("x"))
        x, rounds = features(n, d, k), []
        for seed in range(arguments.rounds):
            mine = timed(ours, x, k, seed)
            rounds.append((mine, {name: timed(peer, x, k, seed) for name, peer in PEERS.items()}))
        row = {"n": n, "d": d, "k": k, "seconds": statistics.median(mine[0] for mine, _ in rounds)}
        line = []
        for name in PEERS:
            ratios = [peers[name][0] / mine[0] for mine, peers in rounds]
            inertia = statistics.median(mine[1] / peers[name][1] for mine, peers in rounds)
            row[name] = {"times_faster": statistics.median(ratios), "all": ratios, "inertia_ratio": inertia}
            spread = f"{min(ratios):.1f}-{max(ratios):.1f}"
            line.append(f"{statistics.median(ratios):.1f}x {name} ({spread}), inertia x {inertia:.4f}")
        report.append(row)
        print(f"{n:,} x {d}, {k} clusters: {row['seconds']:.2f} s, {'; '.join(line)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
