"""The kinds of DATA that connr knows by itself."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from connr.data.arrays import from_arrays
from connr.data.dataset import read_dataset
from connr.data.folder import picture_paths, read_folder
from connr.data.huggingface import HUB, read_hub
from connr.data.image_set import ImageSet
from connr.data.named import dataset_name
from connr.data.npz import read_npz, rows_of_npz
from connr.data.paper import read_named
from connr.data.source import Chunk, Reading, Source, Stream, register
from connr.data.stream import decoded
from connr.errors import InputError


@register("array")
class Array(Source):
    """A numpy array or tensor, uint8 [n,h,w] or [n,h,w,c]."""

    def recognises(self, data: Any) -> bool:
        return isinstance(data, np.ndarray | Tensor)

    def open(self, data: Any, reading: Reading) -> ImageSet:
        return from_arrays(np.asarray(data), None, reading.square, "the array", storage=reading.storage)


@register("items")
class Items(Source):
    """A data set or list, as `read_dataset` takes it."""

    def recognises(self, data: Any) -> bool:
        plain = isinstance(data, str | Path | np.ndarray | Tensor)
        return not plain and (hasattr(data, "__getitem__") or hasattr(data, "__iter__"))

    def open(self, data: Any, reading: Reading) -> ImageSet:
        return read_dataset(data, reading.square, reading.storage, reading.kept)


@register("digits")
class Digits(Source):
    """1,797 handwritten digits of 8 x 8 pixels and 17 grey levels, from scikit-learn's own files (UCI, CC BY 4.0)."""

    def recognises(self, data: Any) -> bool:
        return dataset_name(data) == "digits"

    def open(self, data: Any, reading: Reading) -> ImageSet:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
        return from_arrays(images, bunch.target, reading.square, "digits", [str(name) for name in bunch.target_names])


@register("paper")
class PaperDataset(Source):
    """A data set of the paper, `NAME` or `NAME:ROOT`."""

    def recognises(self, data: Any) -> bool:
        return dataset_name(data) not in (None, "digits")

    def open(self, data: Any, reading: Reading) -> ImageSet:
        return read_named(
            str(data), reading.square, reading.threads, reading.storage, reading.unreadable_at_most, reading.kept
        )


@register("hf")
class HuggingFace(Source):
    """`hf:NAME`, a data set of the Hugging Face Hub."""

    over_network = True

    def recognises(self, data: Any) -> bool:
        return isinstance(data, str | Path) and str(data).startswith(HUB) and not Path(data).exists()

    def open(self, data: Any, reading: Reading) -> ImageSet:
        return read_hub(str(data), reading.square, reading.storage, reading.kept)


@register("folder")
class Folder(Source):
    """A folder of pictures, flat or nested."""

    def recognises(self, data: Any) -> bool:
        return isinstance(data, str | Path) and Path(data).is_dir()

    def open(self, data: Any, reading: Reading) -> ImageSet:
        return read_folder(
            Path(data),
            reading.square,
            reading.labels_from_folders,
            reading.leave_out,
            reading.threads,
            reading.storage,
            reading.unreadable_at_most,
            reading.kept,
        )

    def stream(self, data: Any, reading: Reading, chunk_size: int) -> Stream:
        path = Path(data)
        paths = sorted(picture_paths(path, leave_out=None))
        if not paths:
            raise InputError(f"{path} holds no pictures (.jpg, .png, .webp, ...), in no subfolder either.")
        named = ((str(picture.relative_to(path)), picture) for picture in paths)
        return Stream(decoded(named, reading.square, chunk_size), len(paths))


@register("npz")
class Npz(Source):
    """An `.npz` with `images`, and if there are any `labels` and `class_names`."""

    def recognises(self, data: Any) -> bool:
        return isinstance(data, str | Path) and Path(data).suffix.lower() == ".npz" and Path(data).is_file()

    def open(self, data: Any, reading: Reading) -> ImageSet:
        return read_npz(Path(data), reading.square, reading.storage)

    def stream(self, data: Any, reading: Reading, chunk_size: int) -> Stream:
        total, rows = rows_of_npz(Path(data), reading.square)
        return Stream(_stacked(rows, chunk_size), total)


def _stacked(rows: Iterator[Tensor], chunk_size: int) -> Iterator[Chunk]:
    """Images by index."""
    first = 0
    while some := list(islice(rows, chunk_size)):
        yield Chunk([str(first + index) for index in range(len(some))], torch.stack(some), [])
        first += len(some)
