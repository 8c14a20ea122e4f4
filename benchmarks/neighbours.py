"""Contextual neighbours of a whole data set beside the exact nearest neighbours of faiss: whole processes, turn about.

python benchmarks/neighbours.py [--sizes 60000] [--kinds clustered uniform] [--rounds 2] [--json FILE]

Ours finds the nearest neighbours and the contextual ones from them; faiss only the former. The time is that of the search in a
process of its own, without its start; the memory is the most that the whole process had, imports and features included.
A process that only makes the features is measured as well. `--sizes 60000 100000 200000` shows the growth.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

WIDTH, K, K1, K2 = 256, 10, 10, 2


def features(n: int, kind: str):
    """Unit rows: around 20 directions, so that clusters are there and overlap, or any."""
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, WIDTH, generator=generator)
    if kind == "clustered":
        centres = torch.randn(20, WIDTH, generator=generator)
        x.mul_(1.5).add_(centres[torch.randint(20, (n,), generator=generator)])
    return torch.nn.functional.normalize(x, dim=1, out=x)


def alone(peer: str, n: int, kind: str) -> None:
    """In a process of its own: one search; prints seconds, those of its parts, and the most memory in GiB."""
    import torch

    x, found = features(n, kind), {}
    began = time.perf_counter()
    if peer == "ours":
        from connr.neighbours.blockwise import nearest_blockwise
        from connr.neighbours.sparse import refine

        began = time.perf_counter()
        near = nearest_blockwise(x, max(K1, K2))
        found["nearest"] = time.perf_counter() - began
        refine(*near, x, K, K1, K2, 2.0, 2, 20)
    elif peer == "faiss":
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        began = time.perf_counter()
        faiss.knn(x.numpy(), x.numpy(), K1, metric=faiss.METRIC_INNER_PRODUCT)
    found["seconds"] = time.perf_counter() - began
    found["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def in_a_process(peer: str, n: int, kind: str) -> dict:
    command = [sys.executable, __file__, "--alone", peer, "--sizes", str(n), "--kinds", kind]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[60_000])
    parser.add_argument("--kinds", nargs="+", choices=["clustered", "uniform"], default=["clustered", "uniform"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone", choices=["ours", "faiss", "nothing"], help="one search in this very process")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments.alone, arguments.sizes[0], arguments.kinds[0])
        return
    print(f"features {WIDTH} wide, {platform.machine()}")
    report = []
    for n in arguments.sizes:
        for kind in arguments.kinds:
            pairs = []
            for turn in range(arguments.rounds):
                order = ("ours", "faiss") if turn % 2 == 0 else ("faiss", "ours")
                pairs.append({peer: in_a_process(peer, n, kind) for peer in order})
            ratios = [pair["ours"]["seconds"] / pair["faiss"]["seconds"] for pair in pairs]
            row = {"n": n, "kind": kind, "over_faiss": statistics.median(ratios), "all": ratios}
            for what in ("seconds", "nearest", "gib"):
                row[what] = statistics.median(pair["ours"][what] for pair in pairs)
            row["faiss"] = {what: statistics.median(pair["faiss"][what] for pair in pairs) for what in ("seconds", "gib")}
            row["gib_of_the_features_alone"] = in_a_process("nothing", n, kind)["gib"]
            report.append(row)
            print(
                f"{n:,} {kind}: {row['seconds']:.1f} s, of which nearest neighbours {row['nearest']:.1f}; "
                f"{row['over_faiss']:.2f} of faiss's {row['faiss']['seconds']:.1f} s ({min(ratios):.2f}-{max(ratios):.2f}); "
                f"{row['gib']:.2f} GiB, the features alone {row['gib_of_the_features_alone']:.2f}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
