"""Opens DATA as an `ImageSet`: `digits`, a folder, an `.npz`, an array, or a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from connr.data.folder import UNREADABLE_AT_MOST
from connr.data.huggingface import HUB
from connr.data.image_set import ImageSet
from connr.data.named import NAMED
from connr.data.source import Reading, Source
from connr.data.storage import StoragePolicy
from connr.errors import InputError
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square
from connr.registry import SOURCES


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
    """Reads all images and converts them to size x size pixels and the given channels.

    Args:
        data: `digits`; a data set of the paper by name, `NAME` or `NAME:ROOT`; `hf:NAME`, a data set of Hugging Face; a folder
            of pictures; an `.npz` with `images` (and `labels`); uint8 [n,h,w] or [n,h,w,c]; or a data set or list as
            `read_dataset` takes it; or what a registered `connr.data.source.Source` recognises.
        size, channels, interpolation: as of `Square`, which each image is brought to.
        labels_from_folders: take the name of the folder a picture lies in as its label.
        leave_out: a folder inside DATA that is not read: the run's own output.
        threads: that decode pictures; None for one a core.
        storage: where the pixels go. Arrays stay in memory, where they come from, unless they are enlarged.
        unreadable_at_most: the share of a folder's pictures that may be left out because they cannot be read.
        kept: how whole pictures are stored, for views: of files and data sets, not of arrays. None for the squares alone.

    Raises:
        InputError: DATA does not exist, nothing is readable, or an array has a wrong type or shape.
    """
    if not isinstance(data, str | Path):
        source = source_of(data)
        if source is None:
            raise InputError(f"DATA is a {type(data).__name__}: it should be an array, a data set, a folder or an .npz file.")
    else:
        if not str(data):
            raise InputError(f"DATA is empty: it should be a folder of pictures, an .npz file or {', '.join(NAMED)}.")
        if labels_from_folders and not Path(data).is_dir():
            raise InputError(f"{data} is no folder, so there are no subfolders to take labels from.")
        source = source_of(data)
        if source is None and Path(data).exists():
            raise InputError(f"{data} is neither a folder of pictures nor an .npz file{forms(', nor ')}.")
        if source is None:
            what = f"a folder of pictures, an .npz file, hf:NAME{forms(', ')} or {', '.join(NAMED)}"
            raise InputError(f"{data!r} does not exist: DATA should be {what}.")
    square = Square(size, channels, interpolation)
    found = source.open(data, Reading(square, storage, labels_from_folders, leave_out, threads, unreadable_at_most, kept))
    return found if found.source or not isinstance(data, str | Path) else replace(found, source=place_of(data))


def source_of(data: Any) -> Source | None:
    """The registered source that takes DATA; None where none does."""
    return next((source for _, kind in SOURCES.items() if (source := kind()).recognises(data)), None)


def forms(before: str) -> str:
    """How DATA may be written for sources outside connr, each after `before`."""
    kinds = (kind for _, kind in SOURCES.items())
    return "".join(f"{before}{kind.form}" for kind in kinds if kind.form)


def place_of(data: str | Path) -> str:
    """DATA as a run folder names it: an absolute path where it is a path."""
    return str(Path(data).resolve()) if Path(data).exists() else str(data)


def is_remote(data: str) -> bool:
    """Whether DATA, as a run folder names it, would be looked for on another machine."""
    if data.startswith((HUB, "//", "\\\\")):
        return True
    return any(kind.over_network and kind().recognises(data) for _, kind in SOURCES.items())
