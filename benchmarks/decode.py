"""Reading a folder of JPEGs into uint8 images: ours beside torchvision's ImageFolder in a DataLoader, turn about in one run.

Both decode, resize the shorter side, cut the central square, and end in one uint8 tensor; the loader has as many workers as we
have threads. Without --folder the pictures are generated: smooth noise, as JPEGs compress it. --side and --size may be
several, pair by pair.

python benchmarks/decode.py [--folder DIR] [--side 224] [--count 2000] [--size 64] [--workers 2] [--rounds 5] [--json FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from connr.data import open_images


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--folder", type=Path, help="pictures in class folders, as ImageFolder wants them")
    found.add_argument("--side", type=int, nargs="+", default=[224], help="of the generated pictures, in pixels")
    found.add_argument("--count", type=int, default=2000, help="of the generated pictures")
    found.add_argument("--size", type=int, nargs="+", default=[64], help="of the images they become")
    found.add_argument("--workers", type=int, default=os.cpu_count())
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--json", type=Path)
    return found


def generate(folder: Path, count: int, side: int) -> None:
    """JPEGs of quality 90 in two class folders."""
    rng = np.random.default_rng(0)
    for index in range(count):
        place = folder / f"class{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        noise.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{index:05d}.jpg", quality=90)


def ours(folder: Path, size: int, workers: int) -> torch.Tensor:
    return open_images(folder, size, 3, threads=workers).images


def torchvisions(folder: Path, size: int, workers: int) -> torch.Tensor:
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
    loader = DataLoader(ImageFolder(folder, transforms.Compose(steps)), batch_size=128, num_workers=workers)
    return torch.cat([images for images, _ in loader])


def measured(folder: Path, size: int, workers: int, rounds: int) -> dict[str, Any]:
    """Seconds of every round, images per second at the median, and how many grey levels the two are apart on the mean."""
    peers = {"connr": ours, "torchvision": torchvisions}
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(-1, rounds):  # the first fills the system's cache of files and is not counted
        found = {}
        for name, read in peers.items():
            began = time.perf_counter()
            found[name] = read(folder, size, workers)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    assert found["torchvision"].shape == found["connr"].shape
    return {
        "images": len(found["connr"]),
        "size": size,
        "workers": workers,
        "images_per_second": {name: len(found[name]) / statistics.median(took) for name, took in seconds.items()},
        "times_faster": [theirs / own for theirs, own in zip(seconds["torchvision"], seconds["connr"], strict=True)],
        "grey_levels_apart": float((found["connr"].int() - found["torchvision"].int()).abs().float().mean()),
    }


def main() -> None:
    arguments = parser().parse_args()
    if len(arguments.side) != len(arguments.size):
        raise SystemExit("--side and --size should be as many")
    results = []
    for side, size in zip(arguments.side, arguments.size, strict=True):
        with tempfile.TemporaryDirectory() as place:
            if not arguments.folder:
                generate(Path(place), arguments.count, side)
            found = measured(arguments.folder or Path(place), size, arguments.workers, arguments.rounds)
        results.append({"side": None if arguments.folder else side, **found})
        of = "" if arguments.folder else f" of {side} px"
        apart, faster = found["grey_levels_apart"], found["times_faster"]
        print(f"{found['images']:,} pictures{of} to {size} px, {found['workers']} workers; {apart:.1f} grey levels apart")
        for name, rate in found["images_per_second"].items():
            print(f"{name:12s} {rate:8,.0f} images/s")
        print(f"{statistics.median(faster):.2f}x ({min(faster):.2f}-{max(faster):.2f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
