"""Table 3: steps per second with and without ConNR, alternating in one process, on random images of the recipe's size."""

import statistics
import time
from typing import Any

import torch

from connr.recipe import Recipe
from connr.reproduce.steps import first_step

PAPER = {  # it/s at batch 256 on one RTX 3090
    "cifar10": (7.74, 7.68),
    "cifar20": (7.63, 7.58),
    "stl10": (5.11, 5.04),
    "imagenet10": (5.39, 5.36),
    "imagenet-dogs": (5.33, 5.28),
}


def compare(r: Recipe, rounds: int, device: torch.device) -> dict[str, Any]:
    """Times `rounds` pairs of steps, one of each stage, after a pair that is not counted.

    Returns:
        `byol`, `connr`: steps per second, medians. `ratios`: ConNR's rate over BYOL's, pair by pair.
    """
    steps = first_step(r, r.train.batch_size, device)

    def one(which: int) -> float:
        phase = steps.phases[which]
        views = steps.views(phase)
        _wait(device)
        began = time.perf_counter()
        steps.run(phase, views)
        _wait(device)
        return time.perf_counter() - began

    pairs = [(one(0), one(1)) if turn % 2 else (one(1), one(0))[::-1] for turn in range(rounds + 1)][1:]
    return {
        "byol": 1 / statistics.median(plain for plain, _ in pairs),
        "connr": 1 / statistics.median(ours for _, ours in pairs),
        "ratios": sorted(plain / ours for plain, ours in pairs),
    }


def markdown(rows: dict[str, dict[str, Any]], command: str, where: str) -> str:
    """The table, with the paper's numbers."""
    lines = [
        "## Table3, training speed",
        "",
        f"`{command}`",
        "",
        "| recipe | BYOL it/s | + ConNR it/s | ratio (quartiles) | paper |",
    ]
    lines.append("|---|---|---|---|---|")
    for name, row in rows.items():
        low, middle, high = statistics.quantiles(row["ratios"], n=4)
        paper = "{} → {}, {:.3f}".format(*PAPER[name], PAPER[name][1] / PAPER[name][0]) if name in PAPER else "—"
        lines.append(f"| {name} | {row['byol']:.2f} | {row['connr']:.2f} | {middle:.3f} ({low:.3f}-{high:.3f}) | {paper} |")
    return "\n".join([*lines, "", f"{where}; the paper: one RTX 3090. Augmentation is not counted.", ""])


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()
