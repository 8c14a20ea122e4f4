"""`hf:NAME`: a data set of the Hugging Face Hub, or a folder in its format."""

from typing import Any

from connr.data.dataset import read_dataset
from connr.data.image_set import ImageSet
from connr.data.storage import StoragePolicy
from connr.errors import InputError
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square

HUB = "hf:"


def read_hub(data: str, square: Square, storage: StoragePolicy, kept: Photograph | None = None) -> ImageSet:
    """Reads `hf:NAME` or `hf:NAME:SPLIT`; without SPLIT the split `train`, or the only one.

    Args:
        data: `hf:NAME` or `hf:NAME:SPLIT`.
        square: the size and channels to convert each image to.
        storage: where the pixels are stored.
        kept: the format of whole pictures, for views; None to store only the squares.

    Raises:
        InputError: the library is not installed, the data set or split does not exist, or an item is not an image.
    """
    try:
        import datasets
    except ImportError as fault:
        raise InputError('hf:NAME needs the library of Hugging Face: pip install "connr[datasets]".') from fault
    name, _, split = data.removeprefix(HUB).partition(":")
    try:
        found: Any = datasets.load_dataset(name)
    except Exception as fault:  # errors of the network, the Hub, the file system or the format
        raise InputError(f"{data} cannot be loaded: {type(fault).__name__}: {fault}") from fault
    chosen = split or ("train" if "train" in found or len(found) > 1 else next(iter(found)))
    if chosen not in found:
        raise InputError(f"{data} has no split {chosen!r}; it has {', '.join(found)}: {HUB}{name}:SPLIT.")
    images = found[chosen]
    for column, kind in (images.features or {}).items():
        if isinstance(kind, datasets.Image):  # decoded here: the library would open every format of Pillow
            images = images.cast_column(column, datasets.Image(decode=False))
    return read_dataset(images, square, storage, kept)
