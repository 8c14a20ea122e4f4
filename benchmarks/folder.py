"""From a folder of pictures to its report with a frozen backbone, then with another number of clusters: seconds a part.

python benchmarks/folder.py --data photos/ --clusters 10 --again 8 [--model torchvision:resnet18] [--size 64] [--json FILE]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from connr import pretrained, runs
from connr.data import open_for
from connr.engine import Callback
from connr.report import page
from connr.report.sheet import cluster_sheet
from connr.run_folder import RunFolder, write_bytes


class Clock(Callback):
    """When the backbone had gone through all images, and when the last epoch ended."""

    def __init__(self) -> None:
        self.backbone = self.trained = 0.0
        self.began = time.monotonic()

    def on_train_start(self, *_: int) -> None:
        self.backbone = time.monotonic() - self.began

    def on_epoch_end(self, _: dict[str, Any]) -> None:
        self.trained = time.monotonic() - self.began - self.backbone


def one(data: str, clusters: int, settings: list[str], out: RunFolder) -> dict[str, float]:
    """Seconds of each part of what `connr fit` does."""
    began = time.monotonic()
    r = pretrained.chosen("pretrained", settings, clusters=clusters)
    images = open_for(r, data)
    read, clock = time.monotonic() - began, Clock()
    fitted = runs.fit(r, images, out, callback=clock)
    fitted_in = time.monotonic() - clock.began
    at = time.monotonic()
    write_bytes(out.picture, cluster_sheet(images.images, fitted.assigned, clusters))
    page.write(out, images)
    parts = {"reading pictures": read, "backbone": clock.backbone, "training": clock.trained}
    parts |= {"saving": fitted_in - clock.backbone - clock.trained, "report": time.monotonic() - at}
    return {**parts, "in all": time.monotonic() - began}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", required=True)
    found.add_argument("--clusters", type=int, default=10)
    found.add_argument("--again", type=int, default=8)
    found.add_argument("--model", default="torchvision:resnet18")
    found.add_argument("--weights", default="random")
    found.add_argument("--size", type=int, default=64)
    found.add_argument("--views", type=int, default=4)
    found.add_argument("--json", type=Path)
    return found


def main() -> None:
    arguments = parser().parse_args()
    settings = [f"backbone.model={arguments.model}", f"backbone.weights={arguments.weights}"]
    settings += [f"backbone.views={arguments.views}", f"data.size={arguments.size}"]
    with tempfile.TemporaryDirectory() as place:
        os.environ["CONNR_CACHE"] = str(Path(place) / "cache")  # nothing is there from before
        first = one(arguments.data, arguments.clusters, settings, RunFolder(Path(place) / "first"))
        second = one(arguments.data, arguments.again, settings, RunFolder(Path(place) / "second"))
    print(f"{arguments.model} at {arguments.size} px, {arguments.views} views, {torch.get_num_threads()} threads, seconds\n")
    print(f"| | {arguments.clusters} clusters | share | then {arguments.again} clusters |\n|---|---|---|---|")
    for part, seconds in first.items():
        print(f"| {part} | {seconds:.1f} | {seconds / first['in all']:.0%} | {second[part]:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"first": first, "second": second}, indent=2) + "\n")


if __name__ == "__main__":
    main()
