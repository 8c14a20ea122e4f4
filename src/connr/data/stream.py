"""Streams of pictures in chunks, in order, decoded by threads: any number of paths in bounded memory."""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from connr.data.folder import read_picture
from connr.data.image_set import Skipped
from connr.data.named import NAMED
from connr.data.opening import open_for
from connr.data.prefetch import read_ahead
from connr.data.source import Chunk, Reading, Stream, cut
from connr.data.sources import forms, source_of
from connr.data.storage import StoragePolicy
from connr.errors import InputError
from connr.recipe import Recipe
from connr.recipe.square import Square

CHUNKS_AHEAD = 2  # decoded while the network processes an earlier one


def stream_for(r: Recipe, data: str | Path | Iterable[str], chunk_size: int) -> Stream:
    """Like `open_stream`, for a recipe: images at its size, or rows of features.

    Args:
        r: the recipe.
        data: see `open_stream`; for features, a file.
        chunk_size: images per chunk.

    Raises:
        InputError: see `open_stream`; or features are expected and `data` is not a file.
    """
    if not r.takes_features:
        storage = StoragePolicy(r.data.resident_gib)
        return open_stream(data, r.data.size, r.data.channels, chunk_size, r.data.interpolation, storage=storage)
    if not isinstance(data, str | Path):
        raise InputError("this model takes rows of features, not pictures: DATA should be an .npz, .npy or .parquet file.")
    whole = open_for(r, data)
    return Stream(cut(whole, chunk_size), len(whole))


def open_stream(
    data: str | Path | Iterable[str],
    size: int,
    channels: int,
    chunk_size: int,
    interpolation: str = "bilinear",
    *,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
) -> Stream:
    """Reads DATA in chunks of `chunk_size` images; the last chunk may be smaller.

    Args:
        data: one picture, a folder, an `.npz`, `digits`, or any iterable of paths; it is read as it is needed.
        size, channels, interpolation: as of `Square`.
        chunk_size: images of a chunk, whatever is skipped between them.
        storage: where the pixels of a data set go that is opened whole, one by name; of all else a chunk is in memory.

    Raises:
        InputError: DATA does not exist, or a single picture is unreadable; or, during iteration, no picture is readable.
    """
    square = Square(size, channels, interpolation)
    if not isinstance(data, str | Path):
        return Stream(decoded(((path, Path(path)) for path in data), square, chunk_size), None)
    if source := source_of(data):
        return source.stream(data, Reading(square, storage), chunk_size)
    path = Path(data)
    if path.exists():
        return Stream(iter([_single(path, square)]), 1)
    raise InputError(
        f"{str(data)!r} does not exist: DATA should be a picture, a folder, an .npz file{forms(', ')}, {', '.join(NAMED)}, "
        "or - for paths on standard input."
    )


def split_paths(lines: Iterable[bytes], null: bool = False) -> Iterator[str]:
    """Splits lines into paths; empty paths are skipped.

    Args:
        lines: bytes, such as standard input.
        null: paths end with a zero byte (`find -print0`), not with a line feed.
    """
    end, rest = b"\0" if null else b"\n", b""
    for line in lines:
        *whole, rest = (rest + line).split(end)
        yield from (os.fsdecode(path) for raw in whole if (path := raw if null else raw.removesuffix(b"\r")))
    if rest:
        yield os.fsdecode(rest if null else rest.removesuffix(b"\r"))


def _single(path: Path, square: Square) -> Chunk:
    pixels = read_picture(path, square)
    if isinstance(pixels, str):
        raise InputError(f"{path} cannot be read as a picture: {pixels}")
    return Chunk([str(path)], pixels.unsqueeze(0), [])


def decoded(named: Iterable[tuple[str, Path]], square: Square, chunk_size: int) -> Iterator[Chunk]:
    """Pictures by name, decoded ahead by threads.

    Raises:
        InputError: while it is read: there are no pictures, or none can be read.
    """
    names, rows, skipped, found = list[str](), list[Tensor](), list[Skipped](), 0
    first = None
    for name, pixels in read_ahead(named, partial(read_picture, square=square), CHUNKS_AHEAD * chunk_size):
        if isinstance(pixels, str):
            skipped.append(Skipped(name, pixels))
            first = first or skipped[0]
            continue
        found += 1
        names.append(name)
        rows.append(pixels)
        if len(rows) == chunk_size:
            yield Chunk(names, torch.stack(rows), skipped)
            names, rows, skipped = [], [], []
    if not found:
        if not first:
            raise InputError("there are no paths of pictures to read.")
        raise InputError(f"none of the pictures can be read; the first, {first.path}: {first.reason}")
    if rows or skipped:
        empty = torch.empty(0, *square.shape, dtype=torch.uint8)
        yield Chunk(names, torch.stack(rows) if rows else empty, skipped)
