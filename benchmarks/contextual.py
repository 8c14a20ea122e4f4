"""Contextual neighbours of a batch: ours against the dense evaluation of Eqs. 3-7 and k-reciprocal re-ranking, turn about.

python benchmarks/contextual.py [--sizes 128 256 512 1024 2048 4096 8192] [--rounds 5] [--json FILE]

*dense* is the formula as it is written, one matrix product after the other, ranked by torch's topk, which leaves open which of
equal scores is taken; sets that differ from it where ties go by index, as in ours, are counted. *re-ranking* is Zhong et al.
2017 (k1 20, k2 6, lambda 0.3) written from its paper, whose relations Eq. 3 simplifies.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from connr.neighbours import contextual
from connr.neighbours.nearest import nearest

K, K1, K2, ALPHA, LAYERS = 10, 10, 2, 2.0, 2
RERANKED_TO = 4096  # images; larger ones would take most of the benchmark's time


def features(n: int, d: int = 256, kinds: int = 20) -> Tensor:
    """Points on the sphere around directions, one of them for each kind."""
    generator = torch.Generator().manual_seed(n)
    centres = torch.randn(kinds, d, generator=generator)
    points = centres[torch.randint(kinds, (n,), generator=generator)] + 1.5 * torch.randn(n, d, generator=generator)
    return F.normalize(points, dim=1)


def any_of_equal(similarity: Tensor, k: int) -> Tensor:
    """`nearest`, but for the order of equal ones."""
    return similarity.clone().fill_diagonal_(torch.inf).topk(k).indices


def dense(x: Tensor, rank: Callable[[Tensor, int], Tensor] = any_of_equal) -> Tensor:
    """Eqs. 3-7 with b x b matrices, line by line."""
    similarity = (x @ x.T).fill_diagonal_(1.0)
    ranked = rank(similarity, max(K1, K2))
    relations = torch.zeros_like(similarity).scatter_(1, ranked[:, :K1], 1.0)
    nodes = (relations + relations.T) / 2
    weights = torch.zeros_like(similarity).scatter_(1, ranked[:, :K2], similarity.gather(1, ranked[:, :K2]) ** ALPHA)
    for _ in range(LAYERS):
        nodes = F.normalize(weights @ (nodes + nodes.T), dim=1)
    return rank((nodes @ nodes.T * 2**20).round_(), K)


def reranked(x: Tensor, k1: int = 20, k2: int = 6, share: float = 0.3) -> NDArray[np.int64]:
    """The nearest by (1 - lambda) Jaccard distance of k-reciprocal encodings + lambda of the distance itself."""
    n, distance = len(x), 2 - 2 * (x @ x.T).numpy()
    rank = np.argsort(distance, axis=1)[:, : max(k1, k2) + 1].astype(np.int64)

    def reciprocal(i: int, k: int) -> NDArray[np.int64]:
        forward = rank[i, : k + 1]
        return forward[(rank[forward, : k + 1] == i).any(axis=1)]

    encoding = np.zeros((n, n), dtype=np.float32)
    for i in range(n):
        own = reciprocal(i, k1)
        grown = own
        for candidate in own:
            others = reciprocal(int(candidate), round(k1 / 2))
            if len(np.intersect1d(others, own)) >= 2 / 3 * len(others):
                grown = np.append(grown, others)
        grown = np.unique(grown)
        weight = np.exp(-distance[i, grown])
        encoding[i, grown] = weight / weight.sum()
    encoding = np.stack([encoding[rank[i, :k2]].mean(axis=0) for i in range(n)])
    having = [column.nonzero()[0] for column in encoding.T]
    final = share * distance
    for i in range(n):
        smaller = np.zeros(n, dtype=np.float32)
        for j in encoding[i].nonzero()[0]:
            smaller[having[j]] += np.minimum(encoding[i, j], encoding[having[j], j])
        final[i] += (1 - share) * (1 - smaller / (2 - smaller))
    return np.argsort(final, axis=1)[:, :K]


def seconds(work, x: Tensor, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work(x)
    return (time.perf_counter() - began) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"features 256 wide, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}")
    torch.empty(7 << 20)  # as in training: a freed block just below 32 MiB, and glibc keeps as much instead of giving it back
    report = []
    for n in arguments.sizes:
        x, times, rounds = features(n), max(1, 20_000 // n), arguments.rounds if n < 8000 else 1
        times = 1 if n > 2000 else times
        ours, theirs = contextual(x, K, K1, K2, ALPHA, LAYERS), dense(x, nearest)
        differ = int((ours.sort(dim=1).values != theirs.sort(dim=1).values).any(dim=1).sum())
        pairs = []
        for turn in range(rounds):
            first = seconds(dense, x, times) if turn % 2 else None
            mine = seconds(contextual, x, times)
            pairs.append((mine, seconds(dense, x, times) if first is None else first))
        row = {"n": n, "milliseconds": 1e3 * statistics.median(mine for mine, _ in pairs), "sets_that_differ": differ}
        ratios = [other / mine for mine, other in pairs]
        row["dense"] = {"times_faster": statistics.median(ratios), "all": ratios}
        line = f"{n:5,}: {row['milliseconds']:8.1f} ms; {row['dense']['times_faster']:.1f}x the dense"
        line += f" ({min(ratios):.1f}-{max(ratios):.1f}), {differ} sets differ"
        if n <= RERANKED_TO:
            row["re-ranking"] = {"times_faster": 1e3 * seconds(reranked, x, 1) / row["milliseconds"]}
            line += f"; {row['re-ranking']['times_faster']:.0f}x re-ranking"
        report.append(row)
        print(line, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
