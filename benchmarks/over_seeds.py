"""Scores of several methods over seeds, as a table and as JSON."""

import json
import platform
import statistics
from pathlib import Path

import torch

from connr import __version__

SCORES = ("acc", "nmi", "ari", "seconds")


def tell(rows: dict[str, list[dict[str, float]]], seeds: range, into: Path | None) -> None:
    """Prints mean ± standard deviation (n - 1) of each method's `SCORES`, a dict a seed; writes them to `into`."""
    print(f"seeds {seeds[0]}-{seeds[-1]}; connr {__version__}, torch {torch.__version__},")
    print(f"{torch.get_num_threads()} threads, {platform.machine()}, Python {platform.python_version()}\n")
    print("| method | ACC | NMI | ARI | seconds |\n|---|---|---|---|---|")
    summary: dict[str, dict[str, tuple[float, float]]] = {}
    for name, scores in rows.items():
        columns = {key: [one[key] for one in scores] for key in SCORES}
        summary[name] = {key: (statistics.mean(x), statistics.stdev(x) if len(x) > 1 else 0.0) for key, x in columns.items()}
        cells = [f"{mean:.3f} ± {std:.3f}" for mean, std in list(summary[name].values())[:3]]
        print(f"| {name} | {' | '.join(cells)} | {summary[name]['seconds'][0]:.1f} |")
    if into:
        into.write_text(json.dumps(summary, indent=2) + "\n")
