"""Data sets of other libraries: torch, torchvision, Hugging Face, or a list."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from connr.data.folder import read_bytes, read_picture, row_of, shape_of, split_photographs
from connr.data.image_set import UNLABELLED, ImageSet, Skipped
from connr.data.storage import StoragePolicy, materialize
from connr.errors import InputError
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square

IMAGE_KEYS, LABEL_KEYS = ("image", "img", "images", "pixel_values"), ("label", "labels", "fine_label")


def read_dataset(
    data: Any,
    square: Square,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
    kept: Photograph | None = None,
) -> ImageSet:
    """Reads every item once, in order; images may differ in size.

    Args:
        data: its items are images, (image, label, ...), or mappings with `image` and `label`. An image is a PIL image, a
            path, a uint8 array [h,w] or [h,w,c], or a tensor [h,w] or [c,h,w], uint8 or float in 0..1 as from `ToTensor`.
        square: the size and channels to convert each image to.
        storage: where the pixels are stored; in memory if `data` has no length.
        kept: the format of whole pictures, for views; None to store only the squares.

    Raises:
        InputError: there are no items, or an item is not an image.
    """
    if isinstance(data, Mapping):
        raise InputError(f"DATA is a mapping of {', '.join(map(str, data))}: give one of them.")
    names, labels, skipped = list[str](), list[int](), list[Skipped]()

    def readable() -> Iterator[Tensor]:
        for index, item in enumerate(_items(data)):
            picture, label = _parts(item)
            pixels = _pixels(picture, square, index, kept)
            name = str(picture) if isinstance(picture, str | Path) else str(index)
            if isinstance(pixels, str):
                skipped.append(Skipped(name, pixels))
                continue
            names.append(name)
            labels.append(UNLABELLED if label is None else _integer(label, index))
            yield pixels

    rows = readable() if _counted(data) else list(readable())
    images = materialize(rows, (len(data if _counted(data) else names), *shape_of(square, kept)), storage)
    if not names:
        first = f"; the first, {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise InputError(f"the {type(data).__name__} holds no images{first}.")
    class_names = _class_names(data, labels)
    squares, photographs = split_photographs(images, kept)
    return ImageSet(squares, names, torch.tensor(labels), class_names, skipped, photographs=photographs)


def _items(data: Any) -> Iterator[Any]:
    """The items by index if there is a length: iterating a map-style data set of torch may not end."""
    if _counted(data):
        return (data[index] for index in range(len(data)))
    return iter(data)


def _counted(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _parts(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image = next((item[key] for key in IMAGE_KEYS if key in item), None)
        return image, next((item[key] for key in LABEL_KEYS if key in item), None)
    if isinstance(item, tuple | list) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _pixels(image: Any, square: Square, index: int, kept: Photograph | None) -> UInt8[Tensor, "*row"] | str:
    if isinstance(image, str | Path):
        return read_picture(Path(image), square, kept)
    if isinstance(image, Mapping) and {"bytes", "path"} <= set(image):  # an undecoded image of Hugging Face
        if image["bytes"] is not None:
            return read_bytes(image["bytes"], square, kept)
        if image["path"] is not None:
            return read_picture(Path(image["path"]), square, kept)
    if isinstance(image, Tensor):
        if image.is_floating_point() and float(image.min()) >= 0 and float(image.max()) <= 1:
            image = (image * 255).round().to(torch.uint8)
        image = image.detach().cpu().movedim(0, -1).numpy() if image.ndim == 3 else image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        if (
            image.dtype != np.uint8
            or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3)))
            or not image.size
        ):
            raise InputError(
                f"item {index} is {image.dtype} {list(image.shape)}, should be uint8 in 0..255, [h,w] or [h,w,c] as an array, "
                "[h,w] or [c,h,w] as a tensor; leave out transforms that normalise."
            )
        image = Image.fromarray(image.squeeze(2) if image.ndim == 3 and image.shape[2] == 1 else image)
    if not isinstance(image, Image.Image):
        raise InputError(f"item {index} is a {type(image).__name__}, which is not an image.")
    return row_of(image, square, kept)


def _integer(label: Any, index: int) -> int:
    try:
        return int(label)
    except (TypeError, ValueError) as fault:
        raise InputError(f"the label of item {index} is {label!r}, should be an integer.") from fault


def _class_names(data: Any, labels: list[int]) -> list[str]:
    """torchvision's `classes` or the names of Hugging Face's label column; none if they do not cover the labels."""
    names = getattr(data, "classes", None)
    features = getattr(data, "features", None)
    if names is None and isinstance(features, Mapping):
        names = next((features[key].names for key in LABEL_KEYS if hasattr(features.get(key), "names")), None)
    readable = [str(name) for name in names] if isinstance(names, list | tuple) else []
    return readable if len(set(readable)) == len(readable) > max(labels) else []
