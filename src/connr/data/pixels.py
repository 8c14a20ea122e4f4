"""Converts images to the size and channels of a recipe."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from connr.recipe.square import Square


def crop_and_resize(images: UInt8[Tensor, "n c h w"], size: int, interpolation: str = "bilinear") -> UInt8[Tensor, "n c s s"]:
    """The central square, resized to size x size with antialiasing."""
    h, w = images.shape[2:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = images[:, :, top : top + side, left : left + side]
    if side == size:
        return square.contiguous()
    # Keep the memory layout: channels-last images, as decoders return them, take a third of the time.
    small = [F.interpolate(part, (size, size), mode=interpolation, antialias=True) for part in square.split(1024)]
    return torch.cat(small).contiguous()


BYTES_AT_A_TIME = 2**24  # of the images converted together, before or after, whichever is larger


def images_at_a_time(before: tuple[int, ...], square: Square) -> int:
    """How many images to convert at a time, >= 1, which bounds the memory.

    Args:
        before: (c, h, w) of an image.
        square: of the result.
    """
    return max(1, BYTES_AT_A_TIME // max(math.prod(before), math.prod(square.shape)))


def to_square_iter(square: Square, images: UInt8[Tensor, "n c h w"]) -> Iterator[UInt8[Tensor, "d s s"]]:
    """Like `to_square`, as an iterator over images; several are computed at a time."""
    for part in images.split(images_at_a_time(tuple(images.shape[1:]), square)):
        yield from to_square(square, part)


def to_square(square: Square, images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n d s s"]:
    """Crops, resizes and converts the channels of images."""
    return convert_channels(crop_and_resize(images, square.size, square.interpolation), square.channels)


def convert_channels(images: UInt8[Tensor, "n c h w"], channels: int) -> UInt8[Tensor, "n d h w"]:
    """Grey to RGB by repeating, RGB to grey by ITU-R 601 luma."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return torch.cat([(part * weights).sum(dim=1, keepdim=True).round_().to(torch.uint8) for part in images.split(1024)])
