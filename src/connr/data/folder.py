"""A folder of pictures, flat or nested. Unreadable files are skipped, counted and listed."""

import os
import stat
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from connr.data.formats import extensions, open_picture, unsupported_formats
from connr.data.image_set import UNLABELLED, ImageSet, Skipped
from connr.data.jpeg import read_small_jpeg
from connr.data.photographs import Squares, pack_photograph, whole_from_pillow, whole_from_pixels
from connr.data.pixels import crop_and_resize
from connr.data.prefetch import read_ahead
from connr.data.rows import Rows
from connr.data.storage import (
    CacheIndex,
    StoragePolicy,
    cache_key,
    load_cached,
    locked_cache,
    materialize,
    save_index,
    write_rows,
)
from connr.errors import InputError
from connr.recipe.photograph import Photograph
from connr.recipe.square import Square
from connr.run_folder import RunFolder

UNREADABLE_AT_MOST = 0.1  # share of the pictures; more is an error
AHEAD = 1024  # decoded pictures that may be queued
BACKGROUND = (255, 255, 255)  # under transparent pixels
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF: the tag, and the values that swap height and width


def read_folder(
    folder: Path,
    square: Square,
    labels_from_folders: bool,
    leave_out: Path | None,
    threads: int | None = None,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
    unreadable_at_most: float = UNREADABLE_AT_MOST,
    kept: Photograph | None = None,
) -> ImageSet:
    """Reads every file with the extension of a picture format, in order of path.

    Args:
        folder: searched recursively; hidden files, run folders and `leave_out` are ignored.
        square: the size and channels to convert each picture to.
        labels_from_folders: use the name of a picture's folder as its label; pictures directly in `folder` have none.
        leave_out: a folder that is ignored.
        threads: number of decoding threads; None for one per core.
        storage: where the pixels are stored.
        unreadable_at_most: the largest share of pictures that may be unreadable, in [0, 1].
        kept: the format of whole pictures, for views; None to store only the squares.

    Raises:
        InputError: there are no pictures, or too many are unreadable.
    """
    paths = sorted(picture_paths(folder, leave_out), key=attrgetter("parts"))
    if not paths:
        raise InputError(f"{folder} holds no pictures (.jpg, .png, .webp, ...), in no subfolder either.")
    rows, names, skipped = read_pictures(folder, paths, square, threads, storage, unreadable_at_most, kept)
    places = [Path(name).parent.name if labels_from_folders else "" for name in names]
    class_names = sorted(set(places) - {""})
    if labels_from_folders and not class_names:
        raise InputError(f"{folder} has no subfolders with pictures to take labels from.")
    index = {name: at for at, name in enumerate(class_names)} | {"": UNLABELLED}
    labels = torch.tensor([index[place] for place in places])
    images, photographs = split_photographs(rows, kept)
    return ImageSet(images, names, labels, class_names, skipped, photographs=photographs)


def read_pictures(
    folder: Path,
    paths: list[Path],
    square: Square,
    threads: int | None = None,
    storage: StoragePolicy = StoragePolicy(),  # noqa: B008 - it never changes
    unreadable_at_most: float = UNREADABLE_AT_MOST,
    kept: Photograph | None = None,
) -> tuple[Rows, list[str], list[Skipped]]:
    """Reads pictures of a folder.

    Args:
        folder: names are relative to it.
        paths: of the pictures.
        square: the size and channels to convert each picture to.
        threads: number of decoding threads; None for one per core.
        storage: where the pixels are stored.
        unreadable_at_most: the largest share of pictures that may be unreadable, without those of unsupported formats.
        kept: the format of whole pictures, for views; None to store only the squares.

    Returns:
        The pixels of the readable pictures (with `kept`, rows of photographs), their names, and the skipped files.

    Raises:
        InputError: no picture is readable, or too many are unreadable.
    """
    images, names, skipped = _decoded(folder, paths, square, threads, storage, kept)
    broken = [one for one in skipped if not has_unsupported_format(one)]
    if not names or len(broken) > unreadable_at_most * (len(names) + len(broken)):
        first = "\n".join(f"  {path}: {reason}" for path, reason in (broken or skipped)[:5])
        raise InputError(
            f"{len(broken or skipped)} of {len(paths)} pictures in {folder} cannot be read; remove them, or let more be left "
            f"out: --set data.unreadable_at_most=0.5. The first:\n{first}"
        )
    return images, names, skipped


def has_unsupported_format(file: Skipped) -> bool:
    """Whether a file was skipped because its format is not supported, not because it is broken."""
    return file.reason == unsupported_formats().get(Path(file.path).suffix.lower())


def _decoded(
    folder: Path, paths: list[Path], square: Square, threads: int | None, storage: StoragePolicy, kept: Photograph | None
) -> tuple[Rows, list[str], list[Skipped]]:
    """The pixels of the readable pictures, their names, and the skipped files."""
    names, skipped, shape = list[str](), list[Skipped](), (len(paths), *shape_of(square, kept))

    def readable() -> Iterator[Tensor]:
        named = ((str(path.relative_to(folder)), path) for path in paths)
        for name, pixels in read_ahead(named, partial(read_picture, square=square, kept=kept), AHEAD, threads):
            if isinstance(pixels, str):
                skipped.append(Skipped(name, pixels))
            else:
                names.append(name)
                yield pixels

    if storage.cache is None or storage.fits(shape):
        return materialize(readable(), shape, storage), names, skipped
    with locked_cache(storage.cache):
        name = cache_key(folder, paths, *square, *((kept.short,) if kept else ()))
        if found := load_cached(storage.cache, name, shape):
            images, notes = found
            return images, notes.names, notes.skipped
        images = write_rows(readable(), storage.cache / f"{name}.rows", shape)
        save_index(storage.cache, name, CacheIndex(names, skipped))
    return images, names, skipped


def picture_paths(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    """Paths below `folder` with the extension of a picture format, and folders that cannot be opened.

    Includes pictures of unsupported formats, so that they are counted and listed as skipped.

    Args:
        folder: searched recursively.
        leave_out: a folder that is ignored.
    """
    known, output = extensions() | unsupported_formats().keys(), leave_out.resolve() if leave_out else None
    visited: set[Path] = set()  # real paths, so that links are followed once
    closed = list[Path]()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=lambda fault: closed.append(Path(fault.filename))):
        here = Path(place)
        real = here.resolve()
        if real in visited or real == output or (here != folder and RunFolder(here).holds_a_run()):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in known)
    yield from closed  # counted and listed as skipped


def shape_of(square: Square, kept: Photograph | None) -> tuple[int, ...]:
    """The shape of the result of `read_picture`."""
    return (kept.length,) if kept else square.shape


def read_picture(path: Path, square: Square, kept: Photograph | None = None) -> UInt8[Tensor, "*row"] | str:
    """The pixels of a picture, or the reason why it is unreadable.

    The EXIF orientation is applied, transparent pixels are put on white, and only the first frame is read.

    Args:
        path: of the picture.
        square: the size and channels of the result.
        kept: the format of whole pictures; None for the square only.

    Returns:
        (c s s), or with `kept` the row of a photograph; text if the picture is unreadable.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a regular file"
        if (found := read_small_jpeg(path, square.size, square.channels)) is not None:
            central = crop_and_resize(found.unsqueeze(0), square.size, square.interpolation)[0]
            return pack_photograph(central, whole_from_pixels(found, kept), *found.shape[1:]) if kept else central
        return _decoded_by_pillow(path, square, kept)
    except UnidentifiedImageError as fault:
        return unsupported_formats().get(path.suffix.lower(), _reason(fault))
    except Exception as fault:  # Pillow's decoders raise nearly anything on broken files
        return _reason(fault)


def read_bytes(content: bytes, square: Square, kept: Photograph | None = None) -> UInt8[Tensor, "*row"] | str:
    """Like `read_picture`, from the bytes of a file."""
    try:
        return _decoded_by_pillow(BytesIO(content), square, kept)
    except Exception as fault:  # as above
        return _reason(fault)


def _reason(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}".replace("\n", " ")


def _decoded_by_pillow(source: Path | BytesIO, square: Square, kept: Photograph | None) -> UInt8[Tensor, "*row"] | str:
    with open_picture(source) as picture:
        pixels = picture.width * picture.height
        if Image.MAX_IMAGE_PIXELS and pixels > Image.MAX_IMAGE_PIXELS:  # Pillow itself raises only for twice as many
            return f"DecompressionBombError: {pixels:,} pixels, more than the {Image.MAX_IMAGE_PIXELS:,} of PIL.Image"
        width, height = picture.size
        twice = 2 * square.size  # a JPEG is decoded at reduced size, at least twice `square`
        picture.draft(None, (twice, twice))
        if picture.getexif().get(ORIENTATION) in SIDEWAYS:
            width, height = height, width
        ImageOps.exif_transpose(picture, in_place=True)
        return row_of(picture, square, kept, (height, width))


def row_of(
    picture: Image.Image, square: Square, kept: Photograph | None = None, original: tuple[int, int] | None = None
) -> UInt8[Tensor, "*row"]:
    """The central square (c s s) of a picture, resized, transparent pixels on white; with `kept` the row of a photograph.

    Args:
        picture: decoded.
        square: the size and channels of the result.
        kept: the format of whole pictures; None for the square only.
        original: height and width, if the picture was decoded at reduced size.
    """
    plain, mode = without_transparency(picture), "RGB" if square.channels == 3 else "L"
    if plain.mode != mode:
        plain = plain.convert(mode)
    central = _central(plain, square)
    height, width = original or (plain.height, plain.width)
    return pack_photograph(central, whole_from_pillow(plain, kept), height, width) if kept else central


def split_photographs(rows: Rows, kept: Photograph | None) -> tuple[Rows, Rows | None]:
    """`images` and `photographs` of an `ImageSet`."""
    return (Squares(rows, kept), rows) if kept else (rows, None)


def _central(plain: Image.Image, square: Square) -> UInt8[Tensor, "c s s"]:
    side = min(plain.size)
    left, top = (plain.width - side) / 2, (plain.height - side) / 2
    filter_ = Image.Resampling[square.interpolation.upper()]
    small = plain.resize((square.size, square.size), filter_, (left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(small, dtype=np.uint8))
    return pixels.unsqueeze(0) if square.channels == 1 else pixels.permute(2, 0, 1).contiguous()


def without_transparency(picture: Image.Image) -> Image.Image:
    """The picture with 8 bits per channel and without transparency."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float64)
        full = 65535 if picture.mode != "F" else 1 if values.max() <= 1 else 255  # floats are in 0..1 or 0..255
        levels = values * (255 / full)
        return Image.fromarray(np.clip(levels, 0, 255).round().astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, layer)
    return picture
