"""Reading a folder of JPEGs into uint8 images: ours beside torchvision's ImageFolder in a DataLoader, turn about in one run.

Both decode, resize the shorter side, cut the central square, and end in one uint8 tensor; the loader has as many workers as we
have threads. Without --folder the pictures are generated: smooth noise, as JPEGs compress it.

python benchmarks/decode.py [--folder DIR] [--side 224] [--count 2000] [--size 64] [--workers 2] [--rounds 5] [--json FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

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
    found.add_argument("--side", type=int, default=224, help="of the generated pictures, in pixels")
    found.add_argument("--count", type=int, default=2000, help="of the generated pictures")
    found.add_argument("--size", type=int, default=64, help="of the images they become")
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


def main() -> None:
    arguments = parser().parse_args()
    peers = {"connr": ours, "torchvision": torchvisions}
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        if not arguments.folder:
            generate(folder, arguments.count, arguments.side)
        for turn in range(-1, arguments.rounds):  # the first fills the system's cache of files and is not counted
            found = {}
            for name, read in peers.items():
                began = time.perf_counter()
                found[name] = read(folder, arguments.size, arguments.workers)
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - began)
    n = len(found["connr"])
    assert found["torchvision"].shape == found["connr"].shape
    apart = (found["connr"].int() - found["torchvision"].int()).abs().float().mean()
    rates = {name: n / statistics.median(took) for name, took in seconds.items()}
    ratios = [theirs / own for theirs, own in zip(seconds["torchvision"], seconds["connr"], strict=True)]
    print(f"{n:,} pictures to {arguments.size} px, {arguments.workers} workers; {apart:.1f} grey levels apart on the mean")
    for name, rate in rates.items():
        print(f"{name:12s} {rate:8,.0f} images/s")
    print(f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})")
    if arguments.json:
        report = {
            "images": n,
            "size": arguments.size,
            "workers": arguments.workers,
            "images_per_second": rates,
            "seconds": seconds,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
