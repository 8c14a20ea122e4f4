"""An `.npz` of images, read a few megabytes at a time: it may be larger than the memory."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from connr.data.arrays import checked_labels, checked_shape, from_arrays
from connr.data.image_set import ImageSet
from connr.data.pixels import brought_to
from connr.data.room import Room, settle
from connr.errors import InputError
from connr.recipe.square import Square

BYTES_AT_A_TIME = 2**24
READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, square: Square, room: Room = Room()) -> ImageSet:  # noqa: B008 - it never changes
    """`images` uint8 [n,h,w] or [n,h,w,c]; optional `labels` [n] of integers, -1 unlabelled; optional `class_names`.

    Raises:
        InputError: it is no such file, or it is damaged.
    """
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
            if by_columns:  # the pixels of an image lie apart: all or none
                return from_arrays(plain_array(arrays, "images"), labels, square, str(path), names)
    except InputError:
        raise
    except Exception as fault:
        raise _damaged(path, fault) from fault
    whole = checked_shape(dtype, shape, str(path))
    known = checked_labels(labels, names, whole[0], str(path))
    pixels = settle(_rows(path, member, whole, square), (whole[0], *square.shape), room)
    return ImageSet(pixels, [str(i) for i in range(whole[0])], known, names)


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


def _rows(path: Path, member: str, shape: tuple[int, int, int, int], square: Square) -> Iterator[Tensor]:
    """The images (n h w c) in order, (c s s) each."""
    n, a_row = shape[0], shape[1] * shape[2] * shape[3]
    together = max(1, BYTES_AT_A_TIME // a_row)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            _header(stream)
            for first in range(0, n, together):
                count = min(together, n - first)
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
