"""JPEG pictures not much larger than they are wanted, by torchvision's decoder: it releases the GIL.

Much larger ones are left to Pillow, which can decode at a fraction of the size. `benchmarks/decode.py` sets both beside
torchvision's loader, which reads all by Pillow.
"""

import struct
from io import FileIO
from pathlib import Path

import torch
import torchvision  # noqa: F401 - brings the operator
from jaxtyping import UInt8
from torch import Tensor

# Not `torchvision.io.decode_jpeg`, which warns since 0.29 that it will go; where the operator is gone too, Pillow reads all.
DECODE = getattr(torch.ops.image, "decode_jpeg", None)
MODES = {1: 1, 3: 3}  # channels -> torchvision's GRAY and RGB
SMALL = 1 << 20  # bytes of a file
FRACTION = 4  # from so many times the size wanted, Pillow decodes at half the size or less
START, END_OF_HEADER = b"\xff\xd8\xff", 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of frames; these three are tables


def read_small_jpeg(path: Path, size: int, channels: int) -> UInt8[Tensor, "c h w"] | None:
    """All its pixels, upright as EXIF says; None where it is something else, is to be left to Pillow, or is broken.

    Args:
        size: of the picture wanted.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        OSError: the file cannot be read.
    """
    if DECODE is None:
        return None
    with FileIO(path) as file:  # every call on a file releases the GIL, and waits to have it again: three, not eight
        content = file.read(SMALL + 1)
    if not content.startswith(START) or len(content) > SMALL or (frame := frame_of(content)) is None:
        return None
    height, width, components = frame
    if components not in (1, 3) or not 0 < min(height, width) < FRACTION * size or max(height, width) > 16 * FRACTION * size:
        return None
    try:
        found: Tensor = DECODE(torch.frombuffer(bytearray(content), dtype=torch.uint8), MODES[channels], True)  # upright
    except RuntimeError:  # Pillow will say what is wrong with it
        return None
    return found


def frame_of(content: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of a JPEG's first frame; None where it has none before its pixels (ITU T.81, B.2)."""
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in FRAMES:
            height, width, components = struct.unpack_from(">HHB", content, at + 5)
            return height, width, components
        if marker == END_OF_HEADER:
            return None
        at += 1 if marker == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")  # a filling byte; a segment
    return None
