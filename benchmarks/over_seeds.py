"""Scores of several methods over seeds, as a table and as JSON."""

import json
import platform
import statistics
from pathlib import Path

import torch

from connr import __version__

SCORES = ("acc", "nmi", "ari", "seconds")


def tell(rows: dict[str, list[dict[str, float]]], seeds: range, into: Path | None, ours: str) -> None:
    """Prints mean ± standard deviation (n - 1) of each method's `SCORES`, a dict a seed; writes them to `into`.

    Then how far the ACC of the method `ours` is above the others', by the differences seed by seed.
    """
    print(f"seeds {seeds[0]}-{seeds[-1]}; connr {__version__}, torch {torch.__version__},")
    print(f"{torch.get_num_threads()} threads, {platform.machine()}, Python {platform.python_version()}\n")
    print("| method | ACC | NMI | ARI | seconds |\n|---|---|---|---|---|")
    summary: dict[str, dict[str, tuple[float, float]]] = {}
    for name, scores in rows.items():
        columns = {key: [one[key] for one in scores] for key in SCORES}
        summary[name] = {key: (statistics.mean(x), statistics.stdev(x) if len(x) > 1 else 0.0) for key, x in columns.items()}
        cells = [f"{mean:.3f} ± {std:.3f}" for mean, std in list(summary[name].values())[:3]]
        print(f"| {name} | {' | '.join(cells)} | {summary[name]['seconds'][0]:.1f} |")
    print()
    for name in (name for name in rows if name != ours):
        above = [one["acc"] - other["acc"] for one, other in zip(rows[ours], rows[name], strict=True)]
        std = statistics.stdev(above) if len(above) > 1 else 0.0
        times = f"above on {sum(difference > 0 for difference in above)} of {len(above)} seeds"
        print(f"{ours} - {name}: {statistics.mean(above):+.3f} ± {std:.3f}, {times}")
    if into:
        into.write_text(json.dumps(summary, indent=2) + "\n")
