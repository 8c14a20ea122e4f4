"""STL-10 in its original format: raw bytes, each image by channels and columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from connr.data.image_set import UNLABELLED
from connr.data.named import BrokenDataset
from connr.data.pixels import images_at_a_time, to_square
from connr.recipe.square import Square

FOLDER, SIDE = "stl10_binary", 96
PARTS = ("train", "test", "unlabeled")


def rows(root: Path, square: Square) -> Iterator[UInt8[Tensor, "c s s"]]:
    """The images (c s s) of all three parts in order, converted to `square`."""
    at_a_time = images_at_a_time((3, SIDE, SIDE), square)
    for part, count in zip(PARTS, sizes(root), strict=True):
        with open(root / FOLDER / f"{part}_X.bin", "rb") as file:
            for first in range(0, count, at_a_time):
                raw = np.fromfile(file, np.uint8, min(at_a_time, count - first) * 3 * SIDE * SIDE)
                columns = torch.from_numpy(raw).view(-1, 3, SIDE, SIDE)
                yield from to_square(square, columns.mT)


def labels(root: Path) -> Int[Tensor, " n"]:
    """Labels 0 to 9; -1 for the last part, which is unlabelled.

    Raises:
        BrokenDataset: a file is missing or differs from the original format.
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
    """The number of images of each part.

    Raises:
        BrokenDataset: a file is missing or differs from the original format.
    """
    found = []
    for part in PARTS:
        path = root / FOLDER / f"{part}_X.bin"
        for needed in (path, *([root / FOLDER / f"{part}_y.bin"] if part != "unlabeled" else [])):
            if not needed.is_file():
                raise BrokenDataset(f"{FOLDER}/{needed.name} is missing")
        count, rest = divmod(path.stat().st_size, 3 * SIDE * SIDE)
        if rest or not count:
            raise BrokenDataset(f"{FOLDER}/{path.name} does not hold a whole number of images")
        found.append(count)
    return found


def class_names(root: Path) -> list[str]:
    """The names of the 10 classes.

    Raises:
        BrokenDataset: the file is missing or differs from the original format.
    """
    try:
        names = (root / FOLDER / "class_names.txt").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as fault:
        raise BrokenDataset(f"{FOLDER}/class_names.txt cannot be read: {fault!r}") from fault
    if len(set(names)) != 10:
        raise BrokenDataset(f"{FOLDER}/class_names.txt should name 10 classes")
    return names
