"""Two views of every image of a batch: ours beside Pillow with torchvision's classes and kornia, turn about in one run.

All do what the paper does: resized crop, flip, jitter in random order, grey, then normalise. Pillow's is one process, as a
worker of a loader is; kornia's is its fastest form, one order of the jitter for the whole batch; both are given the images as
they take them. Ours is also timed with its jitter compiled, where there is a C++ compiler. A round is some batches in a row;
views per second are of the median round.

python benchmarks/augment.py [--size 32] [--batch 256] [--rounds 15] [--json FILE]
"""

import argparse
import json
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from connr import recipe
from connr.augment import Augment
from connr.randomness import stream

IN_A_ROW = 5  # batches
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--size", type=int, default=32, help="side of the images, in pixels")
    found.add_argument("--batch", type=int, default=256, help="images")
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--json", type=Path)
    return found


def ours(images: Tensor, compiled: bool) -> Callable[[], object]:
    augment = Augment(MEAN, STD, **recipe.load("cifar10").augment.model_dump(exclude={"name"}))
    if compiled:
        augment.compile()
    generator = stream(0, "benchmark")
    return lambda: [augment(images, generator) for _ in range(2)]


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


def main() -> None:
    arguments = parser().parse_args()
    warnings.simplefilter("ignore")
    images = torch.randint(0, 256, (arguments.batch, 3, arguments.size, arguments.size), generator=stream(0, "images"))
    images = images.to(torch.uint8)
    there = {"connr": ours(images, False), "pillow": pillow(images)}
    try:
        there["kornia"] = kornia(images)
    except ModuleNotFoundError:
        print("kornia is not installed; it is left out")
    if shutil.which("g++") or shutil.which("clang++"):
        there["connr_compiled"] = ours(images, True)
    seconds: dict[str, list[float]] = {name: [] for name in there}
    with torch.no_grad():
        for work in there.values():
            work()
        for _ in range(arguments.rounds):
            for name, work in there.items():
                began = time.perf_counter()
                for _ in range(IN_A_ROW):
                    work()
                seconds[name].append((time.perf_counter() - began) / IN_A_ROW)
    rates = {name: 2 * arguments.batch / statistics.median(took) for name, took in seconds.items()}
    print(f"{arguments.batch} images of {arguments.size} px, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, rate in rates.items():
        ratios = sorted(theirs / own for theirs, own in zip(seconds["pillow"], seconds[name], strict=True))
        spread = f"{ratios[len(ratios) // 4]:.1f}-{ratios[-1 - len(ratios) // 4]:.1f}"
        print(f"{name:15s} {rate:9,.0f} views/s, {statistics.median(ratios):5.1f}x Pillow (quartiles {spread})")
    if arguments.json:
        report = {"size": arguments.size, "batch": arguments.batch, "views_per_second": rates, "seconds": seconds}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
