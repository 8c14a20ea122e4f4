"""Two views of every image of a batch: ours beside Pillow with torchvision's classes and kornia, turn about in one run.

All do what the paper does: resized crop, flip, jitter in random order, grey, then normalise. Pillow's is one process, as a
worker of a loader is; kornia's is its fastest form, one order of the jitter for the whole batch; both are given the images as
they take them. Ours has the memory of the views before to write over, as in training, and is also timed with its jitter
compiled, where there is a C++ compiler. A round is some batches in a row; views per second are of the median round. --size and
--batch may be several: each size at each batch.

python benchmarks/augment.py [--size 32] [--batch 256] [--peers connr pillow] [--rounds 9] [--json FILE]
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from connr import recipe
from connr.randomness import stream
from connr.views import Augment

IN_A_ROW, PIXELS = 5, 5_000_000  # batches in a row, fewer where they hold more pixels than that together
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--size", type=int, nargs="+", default=[32], help="side of the images, in pixels")
    found.add_argument("--batch", type=int, nargs="+", default=[256], help="images")
    found.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--json", type=Path)
    return found


def ours(images: Tensor, compiled: bool = False) -> Callable[[], object]:
    augment = Augment(MEAN, STD, **recipe.load("cifar10").augment.model_dump(exclude={"name"}))
    if compiled:
        augment.compile()
    generator, views = stream(0, "benchmark"), [None, None]

    def two_views() -> None:
        for which, before in enumerate(views):
            drawn = augment.draw(len(images), tuple(images.shape[1:]), generator)
            views[which] = augment.apply(images, drawn, before)

    return two_views


def pillow(images: Tensor) -> Callable[[], object]:
    strengths, size = recipe.load("cifar10").augment, images.shape[2]
    assert strengths.crop_scale
    assert strengths.jitter
    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, strengths.crop_scale),
            transforms.RandomHorizontalFlip(strengths.flip),
            transforms.RandomApply([transforms.ColorJitter(*strengths.jitter)], strengths.jitter_probability),
            transforms.RandomGrayscale(strengths.grey_probability),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return lambda: [torch.stack([pipeline(picture) for picture in pictures]) for _ in range(2)]


def kornia(images: Tensor) -> Callable[[], object]:
    from kornia import augmentation

    strengths, size = recipe.load("cifar10").augment, images.shape[2]
    pipeline = torch.nn.Sequential(
        augmentation.RandomResizedCrop((size, size), scale=strengths.crop_scale),
        augmentation.RandomHorizontalFlip(p=strengths.flip),
        augmentation.ColorJiggle(*strengths.jitter, p=strengths.jitter_probability),
        augmentation.RandomGrayscale(p=strengths.grey_probability),
        augmentation.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    return lambda: [pipeline(images.float() / 255) for _ in range(2)]


PEERS: dict[str, Callable[[Tensor], Callable[[], object]]] = {
    "connr": ours,
    "pillow": pillow,
    "kornia": kornia,
    "connr_compiled": partial(ours, compiled=True),
}


def measured(size: int, batches: list[int], peers: list[str], rounds: int) -> list[dict[str, Any]]:
    """Views per second of each peer at each batch size, and the seconds of every round, turn about."""
    images = torch.randint(0, 256, (max(batches), 3, size, size), generator=stream(0, "images")).to(torch.uint8)
    torch.empty(7 << 20)  # as in training: a freed block just below 32 MiB, and glibc keeps as much instead of giving it back
    work = {(batch, peer): PEERS[peer](images[:batch]) for batch in batches for peer in peers}
    seconds: dict[tuple[int, str], list[float]] = {what: [] for what in work}
    with torch.no_grad():
        for each in work.values():
            each()
        for _ in range(rounds):
            for what, each in work.items():
                in_a_row = max(1, min(IN_A_ROW, PIXELS // (what[0] * size * size)))
                began = time.perf_counter()
                for _ in range(in_a_row):
                    each()
                seconds[what].append((time.perf_counter() - began) / in_a_row)
    return [
        {
            "size": size,
            "batch": batch,
            "views_per_second": {peer: 2 * batch / statistics.median(seconds[batch, peer]) for peer in peers},
            "seconds": {peer: seconds[batch, peer] for peer in peers},
        }
        for batch in batches
    ]


def peers_there(asked: list[str]) -> list[str]:
    """Those of them that this machine has, in the order in which they take their turns."""
    found = [peer for peer in PEERS if peer in asked]
    if "kornia" in found and importlib.util.find_spec("kornia") is None:
        print("kornia is not installed; it is left out")
        found.remove("kornia")
    if "connr_compiled" in found and not (shutil.which("g++") or shutil.which("clang++")):
        found.remove("connr_compiled")
    return found


def main() -> None:
    arguments = parser().parse_args()
    warnings.simplefilter("ignore")
    peers, found = peers_there(arguments.peers), list[dict[str, Any]]()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in arguments.size:
        for one in measured(size, arguments.batch, peers, arguments.rounds):
            found.append(one)
            print(f"{one['batch']} images of {size} px")
            for peer, rate in one["views_per_second"].items():
                told = f"  {peer:15s} {rate:9,.0f} views/s, {1e6 / rate:7,.1f} µs a view"
                if "pillow" in peers:
                    both = zip(one["seconds"]["pillow"], one["seconds"][peer], strict=True)
                    ratios = sorted(theirs / own for theirs, own in both)
                    spread = f"{ratios[len(ratios) // 4]:.1f}-{ratios[-1 - len(ratios) // 4]:.1f}"
                    told += f", {statistics.median(ratios):5.1f}x Pillow (quartiles {spread})"
                print(told)
    if arguments.json:
        arguments.json.write_text(json.dumps(found[0] if len(found) == 1 else found, indent=2) + "\n")


if __name__ == "__main__":
    main()
