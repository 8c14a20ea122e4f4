"""STL-10 as it is distributed: raw bytes, each image channel by channel and column by column."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from connr.data.image_set import UNLABELLED
from connr.data.named import Broken
from connr.data.pixels import in_channels, resized

FOLDER, SIDE = "stl10_binary", 96
PARTS = ("train", "test", "unlabeled")
AT_A_TIME = 1000  # images


def read(root: Path, size: int, channels: int) -> tuple[UInt8[Tensor, "n c s s"], Int[Tensor, " n"], list[str]]:
    """Images of all three parts at `size`, labels (-1 for the unlabelled part, which is last) and class names.

    Raises:
        Broken: a file is missing or not as it is distributed.
    """
    counts = sizes(root)
    images = torch.empty(sum(counts), channels, size, size, dtype=torch.uint8)
    labels = torch.full((sum(counts),), UNLABELLED)
    start = 0
    for part, count in zip(PARTS, counts, strict=True):
        with open(root / FOLDER / f"{part}_X.bin", "rb") as file:
            for first in range(start, start + count, AT_A_TIME):
                here = slice(first, min(first + AT_A_TIME, start + count))
                raw = np.fromfile(file, np.uint8, (here.stop - here.start) * 3 * SIDE * SIDE)
                columns = torch.from_numpy(raw).view(-1, 3, SIDE, SIDE)
                images[here] = in_channels(resized(columns.mT, size), channels)
        if part != "unlabeled":
            known = np.fromfile(root / FOLDER / f"{part}_y.bin", np.uint8).astype(np.int64)
            if len(known) != count or not 1 <= known.min() <= known.max() <= 10:
                raise Broken(f"{FOLDER}/{part}_y.bin should have {count} labels of 1 to 10")
            labels[start : start + count] = torch.from_numpy(known - 1)
        start += count
    return images, labels, class_names(root)


def sizes(root: Path) -> list[int]:
    """How many images each part holds."""
    found = []
    for part in PARTS:
        path = root / FOLDER / f"{part}_X.bin"
        for needed in (path, *([root / FOLDER / f"{part}_y.bin"] if part != "unlabeled" else [])):
            if not needed.is_file():
                raise Broken(f"{FOLDER}/{needed.name} is missing")
        count, rest = divmod(path.stat().st_size, 3 * SIDE * SIDE)
        if rest or not count:
            raise Broken(f"{FOLDER}/{path.name} is no whole number of images long")
        found.append(count)
    return found


def class_names(root: Path) -> list[str]:
    try:
        names = (root / FOLDER / "class_names.txt").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as fault:
        raise Broken(f"{FOLDER}/class_names.txt cannot be read: {fault!r}") from fault
    if len(set(names)) != 10:
        raise Broken(f"{FOLDER}/class_names.txt should name 10 classes")
    return names
