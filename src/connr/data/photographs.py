"""Photographs as rows of bytes with the central square and the whole picture; see `connr.recipe.photograph`."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from connr.data.rows import Rows
from connr.recipe.photograph import Photograph


def pack_photograph(
    square: UInt8[Tensor, "c s s"], whole: UInt8[Tensor, "c short long"], height: int, width: int
) -> UInt8[Tensor, " m"]:
    """The row of a photograph.

    Args:
        square: (c s s), the central square.
        whole: (c short long), the whole picture.
        height: of the original in pixels.
        width: of the original in pixels.
    """
    size = torch.from_numpy(np.array([height, width], dtype="<i4").view(np.uint8))
    return torch.cat([square.flatten(), whole.flatten(), size])


def whole_from_pillow(picture: Image.Image, kept: Photograph) -> UInt8[Tensor, "c short long"]:
    """The whole picture at the stored size, transposed if it is upright."""
    upright = picture.height > picture.width
    size = (kept.short, kept.long) if upright else (kept.long, kept.short)
    small = picture.resize(size, Image.Resampling[kept.square.interpolation.upper()])
    pixels = torch.from_numpy(np.array(small, dtype=np.uint8))
    found = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return found.mT if upright else found


def whole_from_pixels(image: UInt8[Tensor, "c h w"], kept: Photograph) -> UInt8[Tensor, "c short long"]:
    """Like `whole_from_pillow`, from pixels."""
    upright = image.shape[1] > image.shape[2]
    size = (kept.long, kept.short) if upright else (kept.short, kept.long)
    found = F.interpolate(image.unsqueeze(0), size, mode=kept.square.interpolation, antialias=True)[0]
    return found.mT if upright else found


class Squares:
    """The central squares (n c s s) of rows of photographs (n m), in memory or in a file.

    Args:
        rows: (n m) uint8.
        kept: the format of the rows.
    """

    device = torch.device("cpu")
    dtype = torch.uint8

    def __init__(self, rows: Rows, kept: Photograph) -> None:
        self.rows, self.kept = rows, kept
        self.shape = torch.Size((len(rows), *kept.square.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        found: Tensor = self.rows[rows][..., : self.kept.square_bytes].unflatten(-1, self.kept.square.shape)
        return found.contiguous()
