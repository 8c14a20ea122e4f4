"""A folder of pictures, flat or nested. What cannot be read is left out, counted and listed."""

import os
import stat
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from connr.data.ahead import read_ahead
from connr.data.image_set import UNLABELLED, ImageSet, Skipped
from connr.data.room import Kept, Room, claimed, key, recalled, remember, settle, stored
from connr.data.rows import Rows
from connr.errors import InputError
from connr.recipe.side import interpolation_of
from connr.run_folder import RunFolder

UNREADABLE_AT_MOST = 0.1  # of the pictures; more is taken for a mistake
AHEAD = 1024  # pictures that may wait, decoded, for their place
BACKGROUND = (255, 255, 255)  # under transparent pixels


def read_folder(
    folder: Path,
    size: int,
    channels: int,
    labels_from_folders: bool,
    leave_out: Path | None,
    threads: int | None = None,
    room: Room = Room(),  # noqa: B008 - it never changes
) -> ImageSet:
    """Every file with the ending of a picture format, in order of path.

    Args:
        folder: searched through; hidden files, run folders and `leave_out` are passed over.
        size, channels: of the result; the central square of each picture is resized.
        labels_from_folders: the name of the folder a picture lies in becomes its label; right in `folder` it has none.
        leave_out: a folder that is not read.
        threads: that decode; None for one a core.
        room: where the pixels go.

    Raises:
        InputError: there is no picture, or more than a tenth of them cannot be read.
    """
    paths = sorted(pictures(folder, leave_out))
    if not paths:
        raise InputError(f"{folder} holds no pictures (.jpg, .png, .webp, ...), in no subfolder either.")
    images, names, skipped = _decoded(folder, paths, size, channels, threads, room)
    if len(skipped) > UNREADABLE_AT_MOST * len(paths):
        first = "\n".join(f"  {path}: {reason}" for path, reason in skipped[:5])
        raise InputError(
            f"{len(skipped)} of {len(paths)} pictures in {folder} cannot be read; remove them. The first:\n{first}"
        )

    places = [Path(name).parent.name if labels_from_folders else "" for name in names]
    class_names = sorted(set(places) - {""})
    if labels_from_folders and not class_names:
        raise InputError(f"{folder} has no subfolders with pictures to take labels from.")
    labels = [class_names.index(place) if place else UNLABELLED for place in places]
    return ImageSet(images, names, torch.tensor(labels), class_names, skipped)


def _decoded(
    folder: Path, paths: list[Path], size: int, channels: int, threads: int | None, room: Room
) -> tuple[Rows, list[str], list[Skipped]]:
    """The pixels of those that can be read, their names, and those that cannot."""
    names, skipped, shape = list[str](), list[Skipped](), (len(paths), channels, size, size)

    def readable() -> Iterator[Tensor]:
        named = ((str(path.relative_to(folder)), path) for path in paths)
        for name, pixels in read_ahead(named, partial(read_picture, size=size, channels=channels), AHEAD, threads):
            if isinstance(pixels, str):
                skipped.append(Skipped(name, pixels))
            else:
                names.append(name)
                yield pixels

    if room.cache is None or room.fits(shape):
        return settle(readable(), shape, room), names, skipped
    with claimed(room.cache):
        name = key(folder, paths, size, channels)
        if found := recalled(room.cache, name, shape):
            images, kept = found
            return images, kept.names, kept.skipped
        images = stored(readable(), room.cache / f"{name}.rows", shape)
        remember(room.cache, name, Kept(names, skipped))
    return images, names, skipped


def endings() -> set[str]:
    """The endings of the formats that Pillow reads, lower case, but for those it only recognises."""
    Image.init()
    readable = set(Image.OPEN) - {"MPEG", "HDF5", "GRIB", "BUFR", "WMF", "EPS"}
    return {ending for ending, format_ in Image.registered_extensions().items() if format_ in readable}


def pictures(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    """Paths below `folder` whose ending is a picture's, upper or lower case."""
    known, output = endings(), leave_out.resolve() if leave_out else None
    visited: set[Path] = set()  # real paths, so that links are followed once
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        real = here.resolve()
        if real in visited or real == output or (here != folder and RunFolder(here).holds_a_run()):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in known)


def read_picture(path: Path, size: int, channels: int) -> UInt8[Tensor, "c s s"] | str:
    """The pixels, or the reason why there are none. Turned as EXIF says, transparent parts on white, first frame."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a regular file"
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.draft(None, (2 * size, 2 * size))  # JPEG: decode at a fraction of the size, still twice as large
                return fitted(ImageOps.exif_transpose(picture), size, channels)
    except Exception as fault:  # Pillow's decoders raise nearly anything on broken files
        return f"{type(fault).__name__}: {fault}".replace("\n", " ")


def fitted(picture: Image.Image, size: int, channels: int) -> UInt8[Tensor, "c s s"]:
    """The central square of a picture, resized, transparent parts on white."""
    plain = flattened(picture).convert("RGB" if channels == 3 else "L")
    filter_ = Image.Resampling[interpolation_of(size).upper()]
    square = ImageOps.fit(plain, (size, size), filter_)
    pixels = torch.from_numpy(np.array(square, dtype=np.uint8))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def flattened(picture: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel and no transparency."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float64)
        full = 65535 if picture.mode != "F" else 1 if values.max() <= 1 else 255  # floats are 0..1 by custom, else 0..255
        levels = values * (255 / full)
        return Image.fromarray(np.clip(levels, 0, 255).round().astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, layer)
    return picture
