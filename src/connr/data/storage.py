"""Storage of decoded images: in memory if they fit, otherwise in a file that is written once."""

import hashlib
import json
import math
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from connr.data.image_set import Skipped
from connr.data.rows import FileRows, Rows
from connr.errors import InputError
from connr.run_folder import locked, refuse_link, replacing, write_text

GIB = 2**30
ROWS_AT_A_TIME = 64  # rows copied together


class StoragePolicy(NamedTuple):
    """Where decoded images are stored.

    Attributes:
        gib: the largest size in GiB of images in memory.
        cache: the folder for larger ones; None for a temporary file.
    """

    gib: float = 4.0
    cache: Path | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether uint8 images of this shape are stored in memory."""
        return math.prod(shape) <= self.gib * GIB


class CacheIndex(NamedTuple):
    """The index of a cache.

    Attributes:
        names: of the cached images, in order.
        skipped: files that could not be read.
    """

    names: list[str]
    skipped: list[Skipped]


def stack_rows(rows: Iterable[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Collects rows in one tensor without a second copy.

    Args:
        rows: uint8.
        shape: (n, ...), of all rows if none is skipped.
    """
    held, count = torch.empty(shape, dtype=torch.uint8), 0
    for block in blocks(rows):
        held.numpy()[count : count + len(block)] = block
        count += len(block)
    return held[:count]


def write_rows(rows: Iterable[Tensor], path: Path, shape: tuple[int, ...]) -> FileRows:
    """Writes rows to a file atomically.

    Args:
        rows: uint8.
        path: of the file.
        shape: (n, ...), of all rows if none is skipped.
    """
    count = 0
    with replacing(path) as draft, open(draft, "wb") as file:
        for block in blocks(rows):
            file.write(block.data)
            count += len(block)
    return FileRows(path, torch.Size((count, *shape[1:])))


def blocks(rows: Iterable[Tensor]) -> Iterator[NDArray[np.uint8]]:
    """Rows in blocks of `ROWS_AT_A_TIME`: single copies would contend with the decoding threads.

    Copied with NumPy, as torch would use additional threads.
    """
    source = iter(rows)
    while some := list(islice(source, ROWS_AT_A_TIME)):
        yield np.stack([row.numpy() for row in some])


def materialize(rows: Iterable[Tensor], shape: tuple[int, ...], storage: StoragePolicy) -> Rows:
    """Stores rows in memory, or in a temporary file that is removed with the last reference to the result.

    Args:
        rows: uint8.
        shape: (n, ...), of all rows if none is skipped.
        storage: the limit, and the folder of the file, which is created if necessary.

    Raises:
        InputError: the cache cannot be written to.
    """
    if storage.fits(shape):
        return stack_rows(rows, shape)
    try:
        if storage.cache is not None:
            storage.cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".rows", "connr-", storage.cache)
    except OSError as fault:
        raise InputError(f"{storage.cache} cannot be written to: {fault.strerror}; choose another --out.") from fault
    os.close(handle)
    found = write_rows(rows, Path(name), shape)
    weakref.finalize(found, Path(name).unlink, missing_ok=True)
    return found


def cache_key(folder: Path, paths: Iterable[Path], *settings: object) -> str:
    """A hash of the names, sizes and modification times of files, and of the settings of their decoding."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=12)
    for path in paths:
        try:
            found = path.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:  # removed or not accessible: it will be skipped
            state = ""
        digest.update(f"\0{path.relative_to(folder)}\0{state}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def load_cached(cache: Path, name: str, shape: tuple[int, ...]) -> tuple[FileRows, CacheIndex] | None:
    """The cached rows and index of a name; None if they do not exist or are incomplete."""
    path, notes = cache / f"{name}.rows", cache / f"{name}.json"
    try:
        noted = json.loads(notes.read_text(encoding="utf-8", errors="surrogateescape"))
        kept = CacheIndex(noted["names"], [Skipped(*one) for one in noted["skipped"]])
        if not all(isinstance(text, str) for one in (kept.names, *kept.skipped) for text in one):
            return None
        found = torch.Size((len(kept.names), *shape[1:]))
        whole = path.stat().st_size == math.prod(found)
        return (FileRows(path, found), kept) if whole else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def save_index(cache: Path, name: str, kept: CacheIndex) -> None:
    """Writes the index of a cache. Called after the pixels are written, so that an index implies complete pixels."""
    write_text(cache / f"{name}.json", json.dumps(kept._asdict(), ensure_ascii=False))


@contextmanager
def locked_cache(cache: Path) -> Iterator[None]:
    """Locks a cache for this process and removes the temporary files of killed processes.

    Raises:
        InputError: another process has locked it, it cannot be written to, or it is a symbolic link.
    """
    refuse_link(cache)
    with locked(cache, "another process is decoding into", "choose another --out"):
        for draft in cache.glob(".*.tmp"):
            draft.unlink(missing_ok=True)
        yield
