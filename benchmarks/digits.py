"""ConNR on the digits over seeds: scores and seconds, mean ± std, beside scikit-learn in the same run.

python benchmarks/digits.py --seeds 5 [--epochs 110] [--json FILE]
"""

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

import torch

from connr import __version__, demo, recipe
from connr.engine import Callback
from connr.run_folder import RunFolder


def summary(rows: list[demo.Row]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (over seeds, n - 1) of each number."""
    columns = {name: [getattr(row, name) for row in rows] for name in ("acc", "nmi", "ari", "seconds")}
    return {name: (statistics.mean(x), statistics.stdev(x) if len(x) > 1 else 0.0) for name, x in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's, to try it out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    images, found = demo.load(recipe.load("digits")), dict[str, list[demo.Row]]()
    for seed in range(arguments.seeds):
        r = recipe.load("digits", [f"train.epochs={arguments.epochs}"] if arguments.epochs else [], seed=seed)
        rows = list(demo.baselines(images, r.clusters or 10, seed))
        with tempfile.TemporaryDirectory() as place:
            folder = RunFolder(Path(place) / "run")
            whole, _ = demo.connr(r, images, folder, "cpu", Callback())
            rows += [demo.byol_alone(r, images, folder, "cpu", Callback()), whole]
        for row in rows:
            found.setdefault(row.method, []).append(row)
        print(f"seed {seed}: " + ", ".join(f"{row.method} {row.acc:.4f} ({row.seconds:.0f} s)" for row in rows), flush=True)

    print(f"\n{len(images):,} images, seeds 0-{arguments.seeds - 1}; connr {__version__}, torch {torch.__version__},")
    print(f"{torch.get_num_threads()} threads, {platform.machine()}, Python {platform.python_version()}\n")
    print("| method | ACC | NMI | ARI | seconds |\n|---|---|---|---|---|")
    for method, rows in found.items():
        cells = [f"{mean:.3f} ± {std:.3f}" for mean, std in list(summary(rows).values())[:3]]
        print(f"| {method} | {' | '.join(cells)} | {summary(rows)['seconds'][0]:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({method: summary(rows) for method, rows in found.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
