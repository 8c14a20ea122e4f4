"""Images of one size and number of channels -> those of a recipe."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from connr.recipe.square import Square


def resized(images: UInt8[Tensor, "n c h w"], size: int, interpolation: str = "bilinear") -> UInt8[Tensor, "n c s s"]:
    """The central square, brought to size x size with antialiasing."""
    h, w = images.shape[2:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = images[:, :, top : top + side, left : left + side]
    if side == size:
        return square.contiguous()
    # In the layout they came in: with a pixel's channels side by side, as decoders leave them, it takes a third of the time.
    small = [F.interpolate(part, (size, size), mode=interpolation, antialias=True) for part in square.split(1024)]
    return torch.cat(small).contiguous()


BYTES_AT_A_TIME = 2**24  # of images that are brought to another size together, before or after


def together(before: tuple[int, ...], square: Square) -> int:
    """How many images (c h w) are brought to `square` at a time, one at least, so that memory does not grow with their number.

    Args:
        before: (c, h, w).
    """
    return max(1, BYTES_AT_A_TIME // max(math.prod(before), math.prod(square.shape)))


def in_pieces(square: Square, images: UInt8[Tensor, "n c h w"]) -> Iterator[UInt8[Tensor, "d s s"]]:
    """As `brought_to`, each image by itself, a few of them computed at a time."""
    for part in images.split(together(tuple(images.shape[1:]), square)):
        yield from brought_to(square, part)


def brought_to(square: Square, images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n d s s"]:
    """All that a recipe says of the pixels."""
    return in_channels(resized(images, square.size, square.interpolation), square.channels)


def in_channels(images: UInt8[Tensor, "n c h w"], channels: int) -> UInt8[Tensor, "n d h w"]:
    """Grey to RGB by repeating, RGB to grey by ITU-R 601 luma."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return torch.cat([(part * weights).sum(dim=1, keepdim=True).round_().to(torch.uint8) for part in images.split(1024)])
