"""Small JPEG pictures are decoded by torchvision, whose decoder releases the GIL.

Larger ones are left to Pillow, which can decode at reduced size. `benchmarks/decode.py` compares both with torchvision's
loader, which always uses Pillow.
"""

import struct
from io import FileIO
from pathlib import Path

import torch
import torchvision  # noqa: F401 - registers the operator
from jaxtyping import UInt8
from torch import Tensor

# Not `torchvision.io.decode_jpeg`, which is deprecated since 0.29. Without the operator, Pillow reads all pictures.
DECODE = getattr(torch.ops.image, "decode_jpeg", None)
MODES = {1: 1, 3: 3}  # channels -> torchvision's GRAY and RGB
SMALL = 1 << 20  # largest file in bytes
FRACTION = 4  # from this multiple of the requested size on, Pillow decodes at half the size or less
START, END_OF_HEADER = b"\xff\xd8\xff", 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frames, without the three that are tables


def read_small_jpeg(path: Path, size: int, channels: int) -> UInt8[Tensor, "c h w"] | None:
    """All pixels of a JPEG, with its EXIF orientation applied; None if it is not a JPEG, too large, or broken.

    Args:
        path: of the file.
        size: of the requested square in pixels; a picture of 4 times that size or more is left to Pillow.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        OSError: the file cannot be read.
    """
    if DECODE is None:
        return None
    with FileIO(path) as file:  # unbuffered, as every call on a file releases and reacquires the GIL
        content = file.read(SMALL + 1)
    if not content.startswith(START) or len(content) > SMALL or (frame := frame_of(content)) is None:
        return None
    height, width, components = frame
    if components not in (1, 3) or not 0 < min(height, width) < FRACTION * size or max(height, width) > 16 * FRACTION * size:
        return None
    try:
        found: Tensor = DECODE(
            torch.frombuffer(bytearray(content), dtype=torch.uint8), MODES[channels], True
        )  # True: apply the EXIF orientation
    except RuntimeError:  # Pillow reports the reason
        return None
    return found


def frame_of(content: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of the first frame of a JPEG; None if there is none before its pixels (ITU T.81, B.2)."""
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in FRAMES:
            height, width, components = struct.unpack_from(">HHB", content, at + 5)
            return height, width, components
        if marker == END_OF_HEADER:
            return None
        at += 1 if marker == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")  # a fill byte, or a segment
    return None
