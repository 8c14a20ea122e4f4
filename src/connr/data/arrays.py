"""Arrays of images -> an `ImageSet`, with validation of shapes, types and labels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from connr.data.image_set import UNLABELLED, ImageSet
from connr.data.pixels import to_square, to_square_iter
from connr.data.rows import Rows
from connr.data.storage import StoragePolicy, materialize
from connr.errors import InputError
from connr.recipe.square import Square


def from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | None,
    square: Square,
    source: str,
    class_names: Sequence[str] = (),
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
) -> ImageSet:
    """An `ImageSet` of arrays.

    Args:
        images: uint8 [n,h,w], [n,h,w,1] or [n,h,w,3].
        labels: integers [n], -1 for unlabelled; None for no labels.
        square: the size and channels to convert each image to.
        source: name of the arrays in error messages.
        class_names: of labels 0, 1, ...; empty for none.
        storage: where the pixels are stored if the conversion enlarges them; otherwise they stay in memory.

    Raises:
        InputError: an array has a wrong type, shape or content.
    """
    shape = checked_shape(images.dtype, images.shape, source)
    known = checked_labels(labels, class_names, len(images), source)
    given = torch.from_numpy(np.ascontiguousarray(images.reshape(shape))).permute(0, 3, 1, 2)
    return ImageSet(resize_images(given, square, storage), [str(i) for i in range(len(images))], known, list(class_names))


def resize_images(images: UInt8[Tensor, "n c h w"], square: Square, storage: StoragePolicy) -> Rows:
    """Images (n c h w) in memory converted to `square`; in a file if that enlarges them beyond the limit of `storage`."""
    shape = (len(images), *square.shape)
    if tuple(images.shape) == shape:
        return to_square(square, images)
    return materialize(
        to_square_iter(square, images), shape, storage if math.prod(shape) > images.numel() else storage._replace(gib=math.inf)
    )


def checked_shape(dtype: np.dtype[Any], shape: tuple[int, ...], source: str) -> tuple[int, int, int, int]:
    """(n, h, w, c) of images.

    Raises:
        InputError: they are no images.
    """
    if dtype != np.uint8:
        raise InputError(f"images of {source} are {dtype}, should be uint8 in 0..255.")
    whole = (*shape, 1) if len(shape) == 3 else shape
    if len(whole) != 4 or whole[3] not in (1, 3):
        raise InputError(f"images of {source} have shape {list(shape)}, should be [n,h,w], [n,h,w,1] or [n,h,w,3].")
    if 0 in whole:
        raise InputError(f"{source} holds no images: shape {list(shape)}.")
    return whole[0], whole[1], whole[2], whole[3]


def checked_labels(labels: NDArray[Any] | None, class_names: Sequence[str], n: int, source: str) -> Int[Tensor, " n"]:
    """Labels of n images, one at least; -1 for all of them where there are none.

    Raises:
        InputError: they are not such, or the classes are not named as they should be.
    """
    if labels is not None and (labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer)):
        raise InputError(f"labels of {source} are {labels.dtype} {list(labels.shape)}, should be integers [{n}].")
    if labels is not None and labels.max() > np.iinfo(np.int64).max:
        raise InputError(f"labels of {source} reach {labels.max()}, more than 64 bits hold.")
    short = labels is not None and labels.max() >= len(class_names)
    if class_names and ("" in class_names or len(set(class_names)) < len(class_names) or short):
        raise InputError(
            f"class_names of {source} should be different, not empty, and one for each label: {list(class_names[:5])}."
        )
    return torch.full((n,), UNLABELLED) if labels is None else torch.from_numpy(labels.astype(np.int64))
