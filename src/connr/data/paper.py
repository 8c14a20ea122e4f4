"""The paper's data sets, from the files they are distributed in; and what is there of them."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from connr.data import cifar, imagenet, stl
from connr.data.arrays import sized
from connr.data.folder import UNREADABLE_AT_MOST, halves, pictures, read_pictures
from connr.data.image_set import ImageSet
from connr.data.named import DATASETS, BrokenDataset, root_of
from connr.data.rows import Rows
from connr.data.storage import StoragePolicy, materialize
from connr.errors import InputError
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square


def read_named(
    data: str,
    square: Square,
    threads: int | None = None,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
    unreadable_at_most: float = UNREADABLE_AT_MOST,
    kept: Photograph | None = None,
) -> ImageSet:
    """`NAME` or `NAME:ROOT` -> its images, with the splits of the paper.

    CIFAR-10 and CIFAR-20: train and test. STL-10: all 113,000; the 13,000 of train and test come first, and are the split
    that is clustered and scored; the others have no labels and are trained on. ImageNet-10, ImageNet-Dogs, Tiny-ImageNet:
    train.

    Raises:
        InputError: it is not there, or not whole.
    """
    name, root, clustered = data.partition(":")[0], root_of(data), None
    source = f"{name}:{root.resolve()}"
    try:
        if name in cifar.FILES:
            pixels, known, class_names = cifar.read(name, root)
            images: Rows = sized(torch.from_numpy(pixels).permute(0, 3, 1, 2), square, storage)
            labels = torch.from_numpy(known)
        elif name == "stl10":
            labels, class_names = stl.labels(root), stl.class_names(root)
            images = materialize(stl.rows(root, square), (len(labels), *square.shape), storage)
            clustered = sum(stl.sizes(root)[:2])
        else:
            folders = imagenet.class_folders(name, root)
            paths = [path for folder in folders.values() for path in sorted(pictures(folder, None))]
            if not paths:
                raise BrokenDataset("its class folders hold no pictures")
            below = next(iter(folders.values())).parent
            found, names, skipped = read_pictures(below, paths, square, threads, storage, unreadable_at_most, kept)
            index = {folder.name: label for label, folder in enumerate(folders.values())}
            labels = torch.tensor([index[Path(each).parts[0]] for each in names])
            squares, photographs = halves(found, kept)
            return ImageSet(squares, names, labels, list(folders), skipped, source, photographs=photographs)
    except BrokenDataset as fault:
        what = f"{name} is not whole in {root}: {fault}"
        raise InputError(f"{what}; connr data check {name} --root {root} says how to get it.") from fault
    numbers = [str(index) for index in range(len(images))]
    return ImageSet(images, numbers, labels, class_names, source=source, clustered=clustered)


class Found(NamedTuple):
    """What is there of a named data set: images, those with labels, classes; and what is wrong, nothing if it is whole."""

    images: int
    labelled: int
    classes: int
    faults: list[str]


def look(name: str, root: Path) -> Found:
    """Counts the images and classes of a data set under `root` without decoding them.

    Raises:
        InputError: there is no data set of that name, or `root` is no folder.
    """
    if name not in DATASETS:
        raise InputError(f"{name!r} is not one of: {', '.join(DATASETS)}.")
    known, root = DATASETS[name], root_of(f"{name}:{root}")
    try:
        if name in cifar.FILES:
            _, labels, _ = cifar.read(name, root)
            found = Found(len(labels), len(labels), len(np.unique(labels)), [])
        elif name == "stl10":
            counts, classes = stl.sizes(root), stl.class_names(root)
            found = Found(sum(counts), counts[0] + counts[1], len(classes), [])
        else:
            sizes = Counter(
                {each: sum(1 for _ in pictures(folder, None)) for each, folder in imagenet.class_folders(name, root).items()}
            )
            found = Found(sizes.total(), sizes.total(), sum(size > 0 for size in sizes.values()), [])
    except BrokenDataset as fault:
        return Found(0, 0, 0, [str(fault)])
    should, is_ = (known.images, known.labelled, known.classes), (found.images, found.labelled, found.classes)
    of = ("images", "images with a label", "classes")
    faults = [
        f"{there:,} {what}, should be {wanted:,}"
        for there, wanted, what in zip(is_, should, of, strict=True)
        if there != wanted
    ]
    return found._replace(faults=faults)
