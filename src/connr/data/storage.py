"""Where decoded images go: into memory while they fit, else into a file beside the run, decoded once."""

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
TOGETHER = 64  # rows


class StoragePolicy(NamedTuple):
    """gib: of memory that images may take. cache: the folder of those that need more; None for a file that goes with them."""

    gib: float = 4.0
    cache: Path | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether uint8 images of this shape stay in memory."""
        return math.prod(shape) <= self.gib * GIB


class CacheIndex(NamedTuple):
    """What a cache remembers besides the pixels: which of the files they are, and why the others are not."""

    names: list[str]
    skipped: list[Skipped]


def stacked(rows: Iterable[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Rows as they come as one tensor, of which there are never two copies; shape: of all if none were left out."""
    held, count = torch.empty(shape, dtype=torch.uint8), 0
    for block in blocks(rows):
        held.numpy()[count : count + len(block)] = block
        count += len(block)
    return held[:count]


def stored(rows: Iterable[Tensor], path: Path, shape: tuple[int, ...]) -> FileRows:
    """Rows as they come in a file, which is seen whole or not at all."""
    count = 0
    with replacing(path) as draft, open(draft, "wb") as file:
        for block in blocks(rows):
            file.write(block.data)
            count += len(block)
    return FileRows(path, torch.Size((count, *shape[1:])))


def blocks(rows: Iterable[Tensor]) -> Iterator[NDArray[np.uint8]]:
    """Rows that are put in their place together: for each by itself, the threads that decode would be waited for.

    By NumPy, as torch would copy them in threads of its own, which are in the way of those.
    """
    source = iter(rows)
    while some := list(islice(source, TOGETHER)):
        yield np.stack([row.numpy() for row in some])


def materialize(rows: Iterable[Tensor], shape: tuple[int, ...], storage: StoragePolicy) -> Rows:
    """Rows as they come, in memory or in a file that goes when nobody reads it any more.

    Args:
        shape: (n, c, h, w) of all rows together, if none were left out.
        room: its cache is made if it is not there.

    Raises:
        InputError: the cache cannot be written to.
    """
    if storage.fits(shape):
        return stacked(rows, shape)
    try:
        if storage.cache is not None:
            storage.cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".rows", "connr-", storage.cache)
    except OSError as fault:
        raise InputError(f"{storage.cache} cannot be written to: {fault.strerror}; choose another --out.") from fault
    os.close(handle)
    found = stored(rows, Path(name), shape)
    weakref.finalize(found, Path(name).unlink, missing_ok=True)
    return found


def key(folder: Path, paths: Iterable[Path], *settings: object) -> str:
    """The same for the same files in a folder, by name, size and time of change, decoded in the same way."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=12)
    for path in paths:
        try:
            found = path.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:  # gone since it was listed, or out of reach: it will be skipped
            state = ""
        digest.update(f"\0{path.relative_to(folder)}\0{state}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def load_cached(cache: Path, name: str, shape: tuple[int, ...]) -> tuple[FileRows, CacheIndex] | None:
    """What `remember` left under this name; None where it left nothing whole."""
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


def remember(cache: Path, name: str, kept: CacheIndex) -> None:
    """The notes go after the pixels: who finds them finds both whole."""
    write_text(cache / f"{name}.json", json.dumps(kept._asdict(), ensure_ascii=False))


@contextmanager
def claimed(cache: Path) -> Iterator[None]:
    """Inside, no other process decodes into this cache, and what a killed one left is gone.

    Raises:
        InputError: one does, the cache cannot be written to, or is a symbolic link.
    """
    refuse_link(cache)
    with locked(cache, "another process is decoding into", "choose another --out"):
        for draft in cache.glob(".*.tmp"):
            draft.unlink(missing_ok=True)
        yield
