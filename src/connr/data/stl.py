"""STL-10 as it is distributed: raw bytes, each image channel by channel and column by column."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from connr.data.image_set import UNLABELLED
from connr.data.named import BrokenDataset
from connr.data.pixels import brought_to, together
from connr.recipe.square import Square

FOLDER, SIDE = "stl10_binary", 96
PARTS = ("train", "test", "unlabeled")


def rows(root: Path, square: Square) -> Iterator[UInt8[Tensor, "c s s"]]:
    """The images of all three parts, one after the other, brought to `square`."""
    at_a_time = together((3, SIDE, SIDE), square)
    for part, count in zip(PARTS, sizes(root), strict=True):
        with open(root / FOLDER / f"{part}_X.bin", "rb") as file:
            for first in range(0, count, at_a_time):
                raw = np.fromfile(file, np.uint8, min(at_a_time, count - first) * 3 * SIDE * SIDE)
                columns = torch.from_numpy(raw).view(-1, 3, SIDE, SIDE)
                yield from brought_to(square, columns.mT)


def labels(root: Path) -> Int[Tensor, " n"]:
    """0 to 9, and -1 for the part that has none, which is last.

    Raises:
        Broken: a file is missing or not as it is distributed.
    """
    found = []
    for part, count in zip(PARTS, sizes(root), strict=True):
        if part == "unlabeled":
            found.append(torch.full((count,), UNLABELLED))
            continue
        known = np.fromfile(root / FOLDER / f"{part}_y.bin", np.uint8).astype(np.int64)
        if len(known) != count or not 1 <= known.min() <= known.max() <= 10:
            raise BrokenDataset(f"{FOLDER}/{part}_y.bin should have {count} labels of 1 to 10")
        found.append(torch.from_numpy(known - 1))
    return torch.cat(found)


def sizes(root: Path) -> list[int]:
    """How many images each part holds."""
    found = []
    for part in PARTS:
        path = root / FOLDER / f"{part}_X.bin"
        for needed in (path, *([root / FOLDER / f"{part}_y.bin"] if part != "unlabeled" else [])):
            if not needed.is_file():
                raise BrokenDataset(f"{FOLDER}/{needed.name} is missing")
        count, rest = divmod(path.stat().st_size, 3 * SIDE * SIDE)
        if rest or not count:
            raise BrokenDataset(f"{FOLDER}/{path.name} is no whole number of images long")
        found.append(count)
    return found


def class_names(root: Path) -> list[str]:
    try:
        names = (root / FOLDER / "class_names.txt").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as fault:
        raise BrokenDataset(f"{FOLDER}/class_names.txt cannot be read: {fault!r}") from fault
    if len(set(names)) != 10:
        raise BrokenDataset(f"{FOLDER}/class_names.txt should name 10 classes")
    return names
