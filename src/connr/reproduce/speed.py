"""Table 3: steps per second with and without ConNR, turn about in one process, on made-up images of the recipe's size."""

import statistics
import time
from typing import Any

import torch

from connr import experiment
from connr.clustering.kmeans import Clusters
from connr.engine import update
from connr.randomness import stream
from connr.recipe import Recipe

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
    b, k = r.train.batch_size, r.clusters or 10
    plan = experiment.plan_for(r, [0.5] * r.data.channels, [0.25] * r.data.channels)
    framework = experiment.build(r).to(device)
    optimizer = experiment.optimizer_for(r, framework)
    generator, indices = stream(r.seed, "speed"), torch.arange(b, device=device)
    pixels = torch.randint(0, 256, (b, r.data.channels, r.data.size, r.data.size), generator=generator).to(device, torch.uint8)
    with torch.no_grad():
        width = framework.embed(*[plan.stages[0].views(pixels[:2], generator)] * 2)[1].shape[1]
    clusters = Clusters(torch.randn(k, width, generator=generator).to(device), indices % k, 0.0)

    def one(stage: int) -> float:
        part = plan.stages[stage]
        views = part.views(pixels, generator), part.views(pixels, generator)
        sockets = part.sockets(plan.t0 if stage else 0, clusters)
        _wait(device)
        began = time.perf_counter()
        update(framework, optimizer, views, indices, sockets, 0.99)
        _wait(device)
        return time.perf_counter() - began

    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    pairs = [(one(0), one(1)) if turn % 2 else (one(1), one(0))[::-1] for turn in range(rounds + 1)][1:]
    return {
        "byol": 1 / statistics.median(plain for plain, _ in pairs),
        "connr": 1 / statistics.median(ours for _, ours in pairs),
        "ratios": sorted(plain / ours for plain, ours in pairs),
    }


def markdown(rows: dict[str, dict[str, Any]], command: str, where: str) -> str:
    """The table, with the paper's."""
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
