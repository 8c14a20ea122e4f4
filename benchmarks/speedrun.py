"""The CIFAR-10 speed run: from raw uint8 images to final ACC, NMI and ARI, from scratch, on one device; ACC against time.

Counted: every epoch with its k-means, as events.jsonl has it. Not counted: installation, reading the data, making the network,
and what lies between two slices. A run is the recipe `cifar10` with the settings of a variant, in a run folder, so that slices
of a run are the run: `--seconds 540` stops it within a step, and the same command goes on. The loop is the library's own.

python benchmarks/speedrun.py --data cifar10.npz [MORE.npz ...] --out FOLDER [--variant bf16] [--epochs 200] [--seconds 540]
python benchmarks/speedrun.py --data digits --device cpu --limit 512 --epochs 2 --out FOLDER --set backbone.name=small ...
"""

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from connr import __version__, recipe, runs
from connr.data import ImageSet, open_images
from connr.engine import Callback
from connr.errors import Stopped
from connr.recipe import Recipe
from connr.run_folder import RunFolder

VARIANTS: dict[str, list[str]] = {
    "paper": [],
    "bf16": ["train.precision=bf16-mixed"],
    "compiled": ["train.precision=bf16-mixed", "train.compile=true"],
    "batch-1024": ["train.precision=bf16-mixed", "train.compile=true", "train.batch_size=1024"],
}
TARGETS = (0.90, 0.932)  # of ACC; the second is the paper's
PROFILED = (20, 10)  # steps left out, steps looked at; fewer where there are not so many


class Ticker(Callback):
    """A line for every epoch that was scored, with the seconds of training so far; steps a profiler.

    After the first step past `until`, a time of the monotonic clock, it asks this process to stop, as SIGTERM from outside
    would. Only then: before the first step and after the last nobody listens, and the process would end.
    """

    def __init__(self, spent: float, until: float, step: Any = None) -> None:
        self.spent, self.until, self.step = spent, until, step

    def on_step_end(self) -> None:
        if self.step:
            self.step()
        if time.monotonic() > self.until:
            self.until = math.inf
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        self.spent += record["seconds"]
        if "acc" in record:
            print(f"epoch {record['epoch']}: {self.spent:.0f} s, ACC {record['acc']:.4f}", flush=True)


def load(sources: list[str], r: Recipe, limit: int | None) -> ImageSet:
    """All images of all sources as one set; the first `limit` of them."""
    parts = [open_images(source, r.data.size, r.data.channels) for source in sources]
    images, labels = (torch.cat(each) for each in ([part.images[:] for part in parts], [part.labels for part in parts]))
    names = [str(index) for index in range(len(images))]
    return ImageSet(images[:limit], names[:limit], labels[:limit], parts[0].class_names)


def account(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds, seconds an epoch, ACC against time, the time at which each target was reached, the last scores."""
    spent, curve = 0.0, []
    for record in history:
        spent += record["seconds"]
        if "acc" in record:
            curve.append((record["epoch"], spent, record["acc"]))
    reached = {f"{target:g}": next((at for _, at, acc in curve if acc >= target), None) for target in TARGETS}
    last = {name: history[-1].get(name) for name in ("acc", "nmi", "ari")}
    middle = sorted(record["seconds"] for record in history)[len(history) // 2]
    return {"seconds": spent, "median_epoch": middle, "reached": reached, "curve": curve, **last}


def machine(device: str) -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads of {platform.machine()}"
    return {"device": name, "connr": __version__, "torch": torch.__version__, "commit": commit.stdout.strip()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="FILE.npz")
    parser.add_argument("--out", type=Path, required=True, help="the run folder, on a local disk; the same one to go on")
    parser.add_argument("--variant", choices=VARIANTS, default="paper")
    parser.add_argument("--epochs", type=int, default=200, help="of the whole schedule, whatever a slice gets done of it")
    parser.add_argument("--seconds", type=float, help="of this slice; what is under way then is finished")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--limit", type=int, help="the first so many images, to try the script out")
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings on top of the variant's")
    parser.add_argument("--profile", type=Path, help="what some steps spent their time on, into this file")
    parser.add_argument("--json", type=Path, help="a line is added to this file when the run has ended")
    arguments = parser.parse_args()

    until = time.monotonic() + (arguments.seconds or math.inf)
    settings = [f"train.epochs={arguments.epochs}", "train.evaluate_every=5", *VARIANTS[arguments.variant], *arguments.set]
    r = recipe.load(arguments.recipe, settings, seed=arguments.seed)
    images, folder = load(arguments.data, r, arguments.limit), RunFolder(arguments.out)
    r = runs.clamp_to_data(r, len(images))
    going_on = folder.holds_a_run()
    spent = sum(record["seconds"] for record in runs.history(folder)) if going_on else 0.0
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if arguments.device == "cuda" else [])]
    steps = r.train.epochs * (len(images) // r.train.batch_size)
    wait, active = min(PROFILED[0], steps // 3), max(1, min(PROFILED[1], steps // 3))
    plan = schedule(wait=wait, warmup=1, active=active, repeat=1)
    profiler = profile(activities=kinds, schedule=plan) if arguments.profile else nullcontext()
    try:
        with profiler as watching:
            ticker = Ticker(spent, until, watching.step if watching else None)
            history = runs.fit(r, images, folder, resume=going_on, device=arguments.device, callback=ticker).history
    except Stopped:
        print(f"The slice is over; {runs.saved_progress(folder)}. The same command goes on.")
        return 75  # EX_TEMPFAIL: not an error, and not the end
    if watching and watching.profiler:  # there were steps left to look at
        key = "self_cuda_time_total" if arguments.device == "cuda" else "self_cpu_time_total"
        arguments.profile.write_text(watching.key_averages().table(sort_by=key, row_limit=30))
    found = account(history)
    line = {"variant": arguments.variant, "settings": settings, "images": len(images), "seed": arguments.seed}
    line |= machine(arguments.device) | found
    print(json.dumps({key: value for key, value in line.items() if key != "curve"}, indent=2))
    if arguments.json:
        with open(arguments.json, "a") as file:
            file.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
