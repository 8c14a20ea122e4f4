"""DATA, as a user names it, -> an `ImageSet`: `digits`, a folder, an `.npz`, an array, or a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from connr.data.arrays import from_arrays
from connr.data.dataset import read_dataset
from connr.data.folder import UNREADABLE_AT_MOST, read_folder
from connr.data.huggingface import HUB, read_hub
from connr.data.image_set import ImageSet
from connr.data.named import NAMED, dataset_name
from connr.data.npz import read_npz
from connr.data.paper import read_named
from connr.data.storage import StoragePolicy
from connr.errors import InputError
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square


def open_images(
    data: Any,
    size: int,
    channels: int,
    interpolation: str = "bilinear",
    *,
    labels_from_folders: bool = False,
    leave_out: Path | None = None,
    threads: int | None = None,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
    unreadable_at_most: float = UNREADABLE_AT_MOST,
    kept: Photograph | None = None,
) -> ImageSet:
    """Reads all images, brought to size x size pixels and the given channels.

    Args:
        data: `digits`; a data set of the paper by name, `NAME` or `NAME:ROOT`; `hf:NAME`, a data set of Hugging Face; a folder
            of pictures; an `.npz` with `images` (and `labels`); uint8 [n,h,w] or [n,h,w,c]; or a data set or list as
            `read_dataset` takes it.
        size, channels, interpolation: as of `Square`, which each image is brought to.
        labels_from_folders: take the name of the folder a picture lies in as its label.
        leave_out: a folder inside DATA that is not read: the run's own output.
        threads: that decode pictures; None for one a core.
        room: where the pixels go. Arrays stay in memory, where they come from, unless they are enlarged.
        unreadable_at_most: the share of a folder's pictures that may be left out because they cannot be read.
        kept: how whole pictures are stored, for views: of files and data sets, not of arrays. None for the squares alone.

    Raises:
        InputError: nothing is there, nothing is readable, or an array has a wrong type or shape.
    """
    square = Square(size, channels, interpolation)
    if isinstance(data, np.ndarray | Tensor):
        return from_arrays(np.asarray(data), None, square, "the array", storage=storage)
    if not isinstance(data, str | Path):
        if not (hasattr(data, "__getitem__") or hasattr(data, "__iter__")):
            raise InputError(f"DATA is a {type(data).__name__}: it should be an array, a data set, a folder or an .npz file.")
        return read_dataset(data, square, storage, kept)
    if not str(data):
        raise InputError(f"DATA is empty: it should be a folder of pictures, an .npz file or {', '.join(NAMED)}.")
    if labels_from_folders and not Path(data).is_dir():
        raise InputError(f"{data} is no folder, so there are no subfolders to take labels from.")
    if name := dataset_name(data):
        if name == "digits":
            return replace(digits(square), source=name)
        return read_named(str(data), square, threads, storage, unreadable_at_most, kept)
    if str(data).startswith(HUB) and not Path(data).exists():
        return replace(read_hub(str(data), square, storage, kept), source=str(data))
    path = Path(data)
    if path.is_dir():
        found = read_folder(path, square, labels_from_folders, leave_out, threads, storage, unreadable_at_most, kept)
        return replace(found, source=str(path.resolve()))
    if path.suffix.lower() == ".npz" and path.is_file():
        return replace(read_npz(path, square, storage), source=str(path.resolve()))
    if path.exists():
        raise InputError(f"{path} is neither a folder of pictures nor an .npz file.")
    raise InputError(
        f"{data!r} is not there: DATA should be a folder of pictures, an .npz file, hf:NAME or {', '.join(NAMED)}."
    )


def over_network(data: str) -> bool:
    """Whether DATA, as a run folder names it, would be looked for on another machine."""
    return data.startswith((HUB, "//", "\\\\"))


def digits(square: Square) -> ImageSet:
    """1,797 handwritten digits of 8 x 8 pixels and 17 grey levels, from scikit-learn's own files (UCI, CC BY 4.0)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return from_arrays(images, bunch.target, square, "digits", [str(name) for name in bunch.target_names])
