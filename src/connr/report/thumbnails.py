"""Thumbnails as WebP data URIs, single or combined in one sheet."""

import base64
import math
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from connr.data import Rows
from connr.data.pixels import crop_and_resize

LOSSLESS_TO = 16  # pixels; lossy compression of smaller pictures is visible and saves nothing
QUALITY = 78
AT_A_TIME = 256  # pictures in memory at full size


class Sheet(NamedTuple):
    """n pictures of `side` pixels, in reading order, `columns` to a row."""

    uri: str
    side: int
    columns: int


def smaller(images: Rows, which: Int[Tensor, " m"], most: int) -> UInt8[Tensor, "m c s s"]:
    """Pictures reduced to at most `most` pixels per side, in batches."""
    side = min(most, images.shape[2])
    return torch.cat([crop_and_resize(images[some], side) for some in which.split(AT_A_TIME)])


def uri(image: UInt8[Tensor, "c h w"], most: int) -> str:
    """The data URI of a picture reduced to at most `most` pixels per side."""
    small = crop_and_resize(image.unsqueeze(0), min(most, image.shape[1]))[0]
    return _webp(small.permute(1, 2, 0).numpy(), lossless=small.shape[1] <= LOSSLESS_TO)


def sheet(images: UInt8[Tensor, "n c s s"]) -> Sheet:
    """All pictures on one nearly square sheet, which decodes much faster than many files."""
    n, channels, side, _ = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * side, columns * side, channels), dtype=np.uint8)
    for at, picture in enumerate(images.permute(0, 2, 3, 1).numpy()):
        top, left = at // columns * side, at % columns * side
        canvas[top : top + side, left : left + side] = picture
    return Sheet(_webp(canvas, lossless=side <= LOSSLESS_TO), side, columns)


def _webp(pixels: NDArray[np.uint8], lossless: bool) -> str:
    file = BytesIO()
    picture = Image.fromarray(pixels[..., 0]).convert("RGB") if pixels.shape[2] == 1 else Image.fromarray(pixels)
    picture.save(file, format="WEBP", quality=QUALITY, lossless=lossless, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
