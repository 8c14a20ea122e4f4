"""An `.npz` of images, read in blocks of a few megabytes: it may be larger than the memory."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from connr.data.arrays import checked_labels, checked_shape, from_arrays
from connr.data.image_set import ImageSet
from connr.data.pixels import images_at_a_time, to_square, to_square_iter
from connr.data.storage import StoragePolicy, materialize
from connr.errors import InputError
from connr.recipe.square import Square

READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpzImages(NamedTuple):
    """An `.npz` before its pixels are read.

    Attributes:
        path: of the file.
        member: name of the array of images inside the archive.
        shape: (n, h, w, c).
        labels: [n], or None.
        class_names: of labels 0, 1, ...; may be empty.
        whole: the images if their array is in Fortran order, which cannot be read image by image; otherwise None.
    """

    path: Path
    member: str
    shape: tuple[int, int, int, int]
    labels: NDArray[Any] | None
    class_names: list[str]
    whole: NDArray[Any] | None


def read_npz(path: Path, square: Square, storage: StoragePolicy = StoragePolicy()) -> ImageSet:  # noqa: B008 - it never changes
    """Reads an `.npz` with `images`, uint8 [n,h,w] or [n,h,w,c], and optional integer `labels` [n] and `class_names`.

    Args:
        path: of the file; a label of -1 means unlabelled.
        square: the size and channels to convert each image to.
        storage: where the pixels are stored.

    Raises:
        InputError: the arrays are not as above, or the file is damaged.
    """
    opened = _opened(path)
    n, labels, names = opened.shape[0], opened.labels, opened.class_names
    if opened.whole is not None:
        return from_arrays(opened.whole, labels, square, str(path), names, storage)
    known = checked_labels(labels, names, n, str(path))
    return ImageSet(materialize(_rows(opened, square), (n, *square.shape), storage), [str(i) for i in range(n)], known, names)


def rows_of_npz(path: Path, square: Square) -> tuple[int, Iterator[UInt8[Tensor, "c s s"]]]:
    """The number of images of an `.npz`, and an iterator over its images (c s s), read on demand.

    Args:
        path: of the file.
        square: the size and channels to convert each image to.

    Raises:
        InputError: the file has no valid images; or, during iteration, it is damaged.
    """
    opened = _opened(path)
    n, source = opened.shape[0], str(path)
    checked_labels(opened.labels, opened.class_names, n, source)
    if opened.whole is None:
        return n, _rows(opened, square)
    images = torch.from_numpy(np.ascontiguousarray(opened.whole.reshape(opened.shape)))
    return n, to_square_iter(square, images.permute(0, 3, 1, 2))


def _opened(path: Path) -> NpzImages:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays.files:
                hint = " Rows of features need a run that was fitted on features." if "features" in arrays.files else ""
                raise InputError(f"{path} has no array `images`; it holds: {', '.join(arrays.files) or 'nothing'}.{hint}")
            labels = plain_array(arrays, "labels") if "labels" in arrays.files else None
            named = plain_array(arrays, "class_names") if "class_names" in arrays.files else np.array([])
            if named.ndim != 1:
                raise InputError(f"class_names of {path} have shape {list(named.shape)}, should be one for each label.")
            names = [str(name) for name in named]
            member = _member(arrays, "images")
            with arrays.zip.open(member) as stream:
                shape, by_columns, dtype = _header(stream)
            whole = plain_array(arrays, "images") if by_columns else None
    except InputError:
        raise
    except Exception as fault:
        raise _damaged(path, fault) from fault
    return NpzImages(path, member, checked_shape(dtype, shape, str(path)), labels, names, whole)


def plain_array(arrays: Any, name: str) -> NDArray[Any]:
    """An array of an open `.npz`; its declared size is checked before memory is allocated.

    Raises:
        ValueError: the header declares more bytes than the archive holds, or the array has objects.
    """
    member = _member(arrays, name)
    with arrays.zip.open(member) as stream:
        shape, _, dtype = _header(stream)
        declared, held = math.prod(shape) * dtype.itemsize, arrays.zip.getinfo(member).file_size
        if declared > held:
            raise ValueError(f"{name} is declared as {list(shape)} of {dtype}, {declared:,} bytes, and holds {held:,}")
    found: NDArray[Any] = arrays[name]
    return found


def _member(arrays: Any, name: str) -> str:
    return f"{name}.npy" if f"{name}.npy" in arrays.zip.namelist() else name


def _rows(opened: NpzImages, square: Square) -> Iterator[UInt8[Tensor, "c s s"]]:
    """The images (n h w c) in order."""
    path, member, shape, *_ = opened
    n, a_row = shape[0], shape[1] * shape[2] * shape[3]
    at_a_time = images_at_a_time(shape[1:], square)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            _header(stream)
            for first in range(0, n, at_a_time):
                count = min(at_a_time, n - first)
                content = bytearray(stream.read(count * a_row))
                if len(content) < count * a_row:
                    raise ValueError(f"it ends in image {first + len(content) // a_row} of {n}")
                some = torch.frombuffer(content, dtype=torch.uint8).view(count, *shape[1:])
                yield from to_square(square, some.permute(0, 3, 1, 2))
            stream.read(1)  # zipfile verifies the checksum at the end of the member
    except Exception as fault:
        raise _damaged(path, fault) from fault


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type."""
    return READ_HEADER[np.lib.format.read_magic(stream)](stream)


def _damaged(path: Path, fault: Exception) -> InputError:
    """The error for any exception of zipfile, zlib, struct or numpy about a broken archive."""
    return InputError(f"{path} cannot be read as an .npz of plain arrays: {fault}")
