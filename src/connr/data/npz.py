"""An `.npz` of images, read a few megabytes at a time: it may be larger than the memory."""

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
from connr.data.pixels import brought_to, in_pieces, together
from connr.data.storage import StoragePolicy, materialize
from connr.errors import InputError
from connr.recipe.square import Square

READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Opened(NamedTuple):
    """What is known of an `.npz` before its pixels are read: its images [n,h,w] or [n,h,w,c], and whose they are.

    whole: the images, of an array in Fortran's order, in which the pixels of an image lie apart: all are read or none.
    """

    path: Path
    member: str
    shape: tuple[int, int, int, int]
    labels: NDArray[Any] | None
    class_names: list[str]
    whole: NDArray[Any] | None


def read_npz(path: Path, square: Square, storage: StoragePolicy = StoragePolicy()) -> ImageSet:  # noqa: B008 - it never changes
    """`images` uint8 [n,h,w] or [n,h,w,c]; optional `labels` [n] of integers, -1 unlabelled; optional `class_names`.

    Raises:
        InputError: it is no such file, or it is damaged.
    """
    opened = _opened(path)
    n, labels, names = opened.shape[0], opened.labels, opened.class_names
    if opened.whole is not None:
        return from_arrays(opened.whole, labels, square, str(path), names, storage)
    known = checked_labels(labels, names, n, str(path))
    return ImageSet(materialize(_rows(opened, square), (n, *square.shape), storage), [str(i) for i in range(n)], known, names)


def rows_of_npz(path: Path, square: Square) -> tuple[int, Iterator[UInt8[Tensor, "c s s"]]]:
    """How many images an `.npz` holds, and each of them in order, read as it is asked for.

    Raises:
        InputError: it is no such file. While it is read: it is damaged.
    """
    opened = _opened(path)
    n, source = opened.shape[0], str(path)
    checked_labels(opened.labels, opened.class_names, n, source)
    if opened.whole is None:
        return n, _rows(opened, square)
    images = torch.from_numpy(np.ascontiguousarray(opened.whole.reshape(opened.shape)))
    return n, in_pieces(square, images.permute(0, 3, 1, 2))


def _opened(path: Path) -> Opened:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays.files:
                hint = " Rows of features are for a run that was fitted to such." if "features" in arrays.files else ""
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
    return Opened(path, member, checked_shape(dtype, shape, str(path)), labels, names, whole)


def plain_array(arrays: Any, name: str) -> NDArray[Any]:
    """An array of an opened `.npz`, refused before memory is taken for it where the archive cannot hold it.

    Raises:
        ValueError: the header of the array declares more bytes than there are, or the array is not plain.
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


def _rows(opened: Opened, square: Square) -> Iterator[UInt8[Tensor, "c s s"]]:
    """The images (n h w c) in order."""
    path, member, shape, *_ = opened
    n, a_row = shape[0], shape[1] * shape[2] * shape[3]
    at_a_time = together(shape[1:], square)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            _header(stream)
            for first in range(0, n, at_a_time):
                count = min(at_a_time, n - first)
                content = bytearray(stream.read(count * a_row))
                if len(content) < count * a_row:
                    raise ValueError(f"it ends in image {first + len(content) // a_row} of {n}")
                some = torch.frombuffer(content, dtype=torch.uint8).view(count, *shape[1:])
                yield from brought_to(square, some.permute(0, 3, 1, 2))
            stream.read(1)  # at the end of a member its checksum is compared
    except Exception as fault:
        raise _damaged(path, fault) from fault


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type."""
    return READ_HEADER[np.lib.format.read_magic(stream)](stream)


def _damaged(path: Path, fault: Exception) -> InputError:
    """Of whatever zipfile, zlib, struct or numpy say of a broken archive."""
    return InputError(f"{path} cannot be read as an .npz of plain arrays: {fault}")
