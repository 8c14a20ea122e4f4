"""The contract of a data source: a kind of DATA that `fit`, `predict` and `data show` take. A new one is one file.

    @register("mine")
    class Mine(Source):
        def recognises(self, data): return isinstance(data, str) and data.startswith("mine:")
        def open(self, data, reading): return ImageSet(...)

A file of your own is named by `connr --plugin FILE`; an installed package by the entry-point group `connr.data`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from connr.data.image_set import ImageSet, Skipped
from connr.data.storage import StoragePolicy
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square
from connr.registry import SOURCES


class Reading(NamedTuple):
    """How images are to be read.

    Attributes:
        square: size, channels and interpolation that every image is brought to.
        storage: whether the pixels stay in memory; see `connr.data.storage.materialize`.
        labels_from_folders: the name of a picture's folder is its label.
        leave_out: a folder inside DATA that is not read: the run's own output.
        threads: that decode pictures; None for one a core.
        unreadable_at_most: the share of the pictures, in [0, 1], that may be left out because they cannot be read.
        kept: how whole pictures are stored, for views; None for the squares alone.
    """

    square: Square
    storage: StoragePolicy = StoragePolicy()
    labels_from_folders: bool = False
    leave_out: Path | None = None
    threads: int | None = None
    unreadable_at_most: float = 0.1
    kept: Photograph | None = None


class Chunk(NamedTuple):
    """Some images in a row: their names, their pixels, and the files before or among them that were left out.

    images: (n c h w) uint8; or rows of features (n d).
    """

    names: list[str]
    images: Tensor
    skipped: list[Skipped]


class Stream(NamedTuple):
    """Chunks, and how many files or images they are made from; None where that shows only at the end."""

    chunks: Iterator[Chunk]
    total: int | None


class Source(ABC):
    """A kind of DATA.

    Attributes:
        form: how a user writes it, such as `mine:NAME`, for messages.
        over_network: whether it is read from another machine: a run folder alone never opens it.
    """

    form: ClassVar[str] = ""
    over_network: ClassVar[bool] = False

    @abstractmethod
    def recognises(self, data: Any) -> bool:
        """Whether DATA is of this kind. At most one source should say so; nothing is read."""

    @abstractmethod
    def open(self, data: Any, reading: Reading) -> ImageSet:
        """All images.

        Raises:
            InputError: they cannot be read.
        """

    def stream(self, data: Any, reading: Reading, chunk_size: int) -> Stream:
        """The images in chunks of `chunk_size`, the last one smaller; without this method they are opened whole.

        Raises:
            InputError: they cannot be read.
        """
        whole = self.open(data, reading)
        return Stream(cut(whole, chunk_size), len(whole))


def cut(images: ImageSet, chunk_size: int) -> Iterator[Chunk]:
    """Opened images, a chunk at a time."""
    for start in range(0, len(images), chunk_size):
        here = slice(start, start + chunk_size)
        yield Chunk(images.names[here], images.images[here], [])


register = SOURCES.register

__all__ = ["Chunk", "Reading", "Source", "Stream", "cut", "register"]
