"""The paper's data sets, read from their original files; and a check of such files."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from connr.data import cifar, imagenet, stl
from connr.data.arrays import resize_images
from connr.data.folder import UNREADABLE_AT_MOST, picture_paths, read_pictures, split_photographs
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
    """Reads a named data set with the splits of the paper.

    CIFAR-10 and CIFAR-20: train and test. STL-10: all 113,000 images; the first 13,000, of train and test, are clustered and
    scored; the others have no labels and are used in training only. ImageNet-10, ImageNet-Dogs, Tiny-ImageNet: train.

    Args:
        data: `NAME` or `NAME:ROOT`.
        square: the size and channels to convert each image to.
        threads: number of decoding threads; None for one per core.
        storage: where the pixels are stored.
        unreadable_at_most: the largest share of pictures that may be unreadable, in [0, 1].
        kept: the format of whole pictures, for views; None to store only the squares.

    Raises:
        InputError: the data set does not exist or is incomplete.
    """
    name, root, clustered = data.partition(":")[0], root_of(data), None
    source = f"{name}:{root.resolve()}"
    try:
        if name in cifar.FILES:
            pixels, known, class_names = cifar.read(name, root)
            images: Rows = resize_images(torch.from_numpy(pixels).permute(0, 3, 1, 2), square, storage)
            labels = torch.from_numpy(known)
        elif name == "stl10":
            labels, class_names = stl.labels(root), stl.class_names(root)
            images = materialize(stl.rows(root, square), (len(labels), *square.shape), storage)
            clustered = sum(stl.sizes(root)[:2])
        else:
            folders = imagenet.class_folders(name, root)
            paths = [path for folder in folders.values() for path in sorted(picture_paths(folder, None))]
            if not paths:
                raise BrokenDataset("its class folders hold no pictures")
            below = next(iter(folders.values())).parent
            found, names, skipped = read_pictures(below, paths, square, threads, storage, unreadable_at_most, kept)
            index = {folder.name: label for label, folder in enumerate(folders.values())}
            labels = torch.tensor([index[Path(each).parts[0]] for each in names])
            squares, photographs = split_photographs(found, kept)
            return ImageSet(squares, names, labels, list(folders), skipped, source, photographs=photographs)
    except BrokenDataset as fault:
        what = f"{name} is incomplete in {root}: {fault}"
        raise InputError(f"{what}; connr data check {name} --root {root} says how to get it.") from fault
    numbers = [str(index) for index in range(len(images))]
    return ImageSet(images, numbers, labels, class_names, source=source, clustered=clustered)


class DatasetCheck(NamedTuple):
    """The result of a check of a named data set.

    Attributes:
        images: number of images.
        labelled: number of images with a label.
        classes: number of classes.
        faults: problems; empty if the data set is complete.
    """

    images: int
    labelled: int
    classes: int
    faults: list[str]


def check_files(name: str, root: Path) -> DatasetCheck:
    """Counts the images and classes of a data set without decoding images.

    Args:
        name: of the data set.
        root: the folder that holds it.

    Raises:
        InputError: there is no data set of that name, or `root` does not exist.
    """
    if name not in DATASETS:
        raise InputError(f"{name!r} is not one of: {', '.join(DATASETS)}.")
    known, root = DATASETS[name], root_of(f"{name}:{root}")
    try:
        if name in cifar.FILES:
            _, labels, _ = cifar.read(name, root)
            found = DatasetCheck(len(labels), len(labels), len(np.unique(labels)), [])
        elif name == "stl10":
            counts, classes = stl.sizes(root), stl.class_names(root)
            found = DatasetCheck(sum(counts), counts[0] + counts[1], len(classes), [])
        else:
            sizes = Counter(
                {
                    each: sum(1 for _ in picture_paths(folder, None))
                    for each, folder in imagenet.class_folders(name, root).items()
                }
            )
            found = DatasetCheck(sizes.total(), sizes.total(), sum(size > 0 for size in sizes.values()), [])
    except BrokenDataset as fault:
        return DatasetCheck(0, 0, 0, [str(fault)])
    should, is_ = (known.images, known.labelled, known.classes), (found.images, found.labelled, found.classes)
    of = ("images", "images with a label", "classes")
    faults = [
        f"{there:,} {what}, should be {wanted:,}"
        for there, wanted, what in zip(is_, should, of, strict=True)
        if there != wanted
    ]
    return found._replace(faults=faults)
