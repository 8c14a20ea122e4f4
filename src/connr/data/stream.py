"""Pictures a chunk at a time, in order, decoded ahead by threads: any number of paths in bounded memory."""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from connr.data.folder import pictures, read_picture
from connr.data.huggingface import HUB
from connr.data.image_set import ImageSet, Skipped
from connr.data.named import NAMED, dataset_name
from connr.data.npz import rows_of_npz
from connr.data.opening import open_for
from connr.data.prefetch import read_ahead
from connr.data.sources import open_images
from connr.data.storage import StoragePolicy
from connr.errors import InputError
from connr.recipe import Recipe
from connr.recipe.square import Square

CHUNKS_AHEAD = 2  # decoded while the network is busy with an earlier one


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


def stream_for(r: Recipe, data: str | Path | Iterable[str], chunk_size: int) -> Stream:
    """As `open_stream`, of what the recipe is for: images at its size, or rows of features."""
    if not r.takes_features:
        storage = StoragePolicy(r.data.resident_gib)
        return open_stream(data, r.data.size, r.data.channels, chunk_size, r.data.interpolation, storage=storage)
    if not isinstance(data, str | Path):
        raise InputError("this model takes rows of features, not pictures: DATA should be an .npz, .npy or .parquet file.")
    whole = open_for(r, data)
    return Stream(_cut(whole, chunk_size), len(whole))


def open_stream(
    data: str | Path | Iterable[str],
    size: int,
    channels: int,
    chunk_size: int,
    interpolation: str = "bilinear",
    *,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
) -> Stream:
    """DATA -> chunks of `chunk_size` images, the last one smaller.

    Args:
        data: one picture, a folder, an `.npz`, `digits`, or any iterable of paths; it is read as it is needed.
        size, channels, interpolation: as of `Square`.
        chunk_size: images of a chunk, whatever is skipped between them.
        room: where the pixels of a data set go that is opened whole: one by name. Of all else, a chunk is in memory at a time.

    Raises:
        InputError: nothing is there. While it is read: of a single picture, it cannot be read; of many, none can.
    """
    square = Square(size, channels, interpolation)
    if not isinstance(data, str | Path):
        return Stream(_decoded(((path, Path(path)) for path in data), square, chunk_size), None)
    path = Path(data)
    if path.is_dir():
        paths = sorted(pictures(path, leave_out=None))
        if not paths:
            raise InputError(f"{path} holds no pictures (.jpg, .png, .webp, ...), in no subfolder either.")
        named = ((str(picture.relative_to(path)), picture) for picture in paths)
        return Stream(_decoded(named, square, chunk_size), len(paths))
    if path.exists() and path.suffix.lower() != ".npz":
        return Stream(iter([_single(path, square)]), 1)
    if path.is_file():
        total, rows = rows_of_npz(path, square)
        return Stream(_stacked(rows, chunk_size), total)
    if not path.exists() and not dataset_name(data) and not str(data).startswith(HUB):
        raise InputError(
            f"{str(data)!r} is not there: DATA should be a picture, a folder, an .npz file, {', '.join(NAMED)}, "
            "or - for paths on standard input."
        )
    whole = open_images(data, *square, storage=storage)
    return Stream(_cut(whole, chunk_size), len(whole))


def split_paths(lines: Iterable[bytes], null: bool = False) -> Iterator[str]:
    """Paths as they come, one a line; with `null`, each ended by a zero byte (`find -print0`). Empty ones are passed over."""
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


def _cut(images: ImageSet, chunk_size: int) -> Iterator[Chunk]:
    for start in range(0, len(images), chunk_size):
        here = slice(start, start + chunk_size)
        yield Chunk(images.names[here], images.images[here], [])


def _stacked(rows: Iterator[Tensor], chunk_size: int) -> Iterator[Chunk]:
    """Images by index."""
    first = 0
    while some := list(islice(rows, chunk_size)):
        yield Chunk([str(first + index) for index in range(len(some))], torch.stack(some), [])
        first += len(some)


def _decoded(named: Iterable[tuple[str, Path]], square: Square, chunk_size: int) -> Iterator[Chunk]:
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
