"""Named data sets: `NAME`, in the folder of the variable CONNR_DATA, or `NAME:ROOT`. Each has a recipe of the same name."""

import os
from pathlib import Path
from typing import NamedTuple

from connr.errors import InputError

ROOT = "CONNR_DATA"  # the environment variable


class DatasetInfo(NamedTuple):
    """A data set of the paper.

    Attributes:
        images: number of training images.
        labelled: number of images with a label.
        classes: number of classes.
        how: the file to download and how to unpack it.
    """

    images: int
    labelled: int
    classes: int
    how: str


DATASETS = {
    "cifar10": DatasetInfo(
        60_000, 60_000, 10, "cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html, unpacked: cifar-10-batches-py/"
    ),
    "cifar20": DatasetInfo(
        60_000, 60_000, 20, "cifar-100-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html, unpacked: cifar-100-python/"
    ),
    "stl10": DatasetInfo(
        113_000, 13_000, 10, "stl10_binary.tar.gz from cs.stanford.edu/~acoates/stl10, unpacked: stl10_binary/"
    ),
    "imagenet10": DatasetInfo(
        13_000, 13_000, 10, "ILSVRC2012_img_train.tar from image-net.org (an account is needed), unpacked: train/n.../*.JPEG"
    ),
    "imagenet-dogs": DatasetInfo(
        19_500, 19_500, 15, "ILSVRC2012_img_train.tar from image-net.org (an account is needed), unpacked: train/n.../*.JPEG"
    ),
    "tiny-imagenet": DatasetInfo(
        100_000, 100_000, 200, "tiny-imagenet-200.zip from cs231n.stanford.edu, unpacked: tiny-imagenet-200/"
    ),
}  # fmt: skip
NAMED = ("digits", *DATASETS)


class BrokenDataset(ValueError):
    """A file of a named data set is missing or differs from the original format."""


def dataset_name(data: object) -> str | None:
    """The name in `NAME` or `NAME:ROOT`; None if DATA is not a named data set, or is an existing file of that name."""
    name = str(data).partition(":")[0]
    return name if isinstance(data, str | Path) and name in NAMED and not Path(data).exists() else None


def root_of(data: str) -> Path:
    """The folder of a named data set, from `NAME:ROOT` or the variable CONNR_DATA.

    Raises:
        InputError: no folder is given, or it does not exist.
    """
    name, _, given = data.partition(":")
    root = given or os.environ.get(ROOT, "")
    if not root:
        raise InputError(f"the folder of {name} is not given: write {name}:FOLDER or set the environment variable {ROOT}.")
    if not Path(root).is_dir():
        raise InputError(f"the folder {root} of {name} does not exist; give another as {name}:FOLDER.")
    return Path(root)
