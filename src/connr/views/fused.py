"""Jitter of RGB images as one function for torch.compile, which needs a few passes over the pixels instead of fifty.

Computes the same as `colour.jitter`, with identities for operations that an image does not have.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.views.colour import HUE, LUMA, TINY, linear


def steps(
    factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"], chosen: Bool[Tensor, " b"]
) -> tuple[Float[Tensor, "b 6 3 3"], Float[Tensor, "b 6"], Float[Tensor, " b"]]:
    """Matrices and factors of the mean grey of the three operations before hue and the three after it; and turns of hue."""
    b, turn_of_hue = len(factors), (order == HUE).int().argmax(dim=1, keepdim=True)
    others, slots = order[order != HUE].view(b, 3), torch.arange(3)
    matrices, of_mean = linear(others, factors.gather(1, others))
    which = torch.cat([slots.expand(b, 3), (turn_of_hue + slots).clamp(max=2)], dim=1)
    there = torch.cat([slots < turn_of_hue, turn_of_hue + slots < 3], dim=1) & chosen.unsqueeze(1)
    matrices = torch.where(there[..., None, None], matrices[torch.arange(b).unsqueeze(1), which], torch.eye(3))
    return matrices, of_mean.gather(1, which) * there, factors[:, HUE] * chosen


def coloured(
    images: Float[Tensor, "b 3 h w"],
    matrices: Float[Tensor, "b 6 3 3"],
    of_mean: Float[Tensor, "b 6"],
    turns: Float[Tensor, " b"],
) -> Float[Tensor, "b 3 h w"]:
    """Applies the operations of `steps` in order."""
    pixels = images.flatten(2)
    for slot in range(3):
        pixels = _step(pixels, matrices[:, slot], of_mean[:, slot])
    pixels = _turned(pixels, turns)
    for slot in range(3, 6):
        pixels = _step(pixels, matrices[:, slot], of_mean[:, slot])
    return pixels.view_as(images)


def _step(pixels: Tensor, matrices: Tensor, of_mean: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(dim=1)
    mean = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).mean(dim=1)
    added = (of_mean * mean).unsqueeze(1)
    m = matrices.unsqueeze(3)
    rows = (m[:, i, 0] * red + m[:, i, 1] * green + m[:, i, 2] * blue + added for i in range(3))
    return torch.stack([row.clamp(0, 1) for row in rows], dim=1)


def _turned(pixels: Tensor, turns: Tensor) -> Tensor:
    """`colour.hue` without in-place operations, for torch.compile."""
    red, green, blue = pixels.unbind(dim=1)
    value, smallest = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = value - smallest
    sextant = (green + blue - red + value - 2 * smallest) / chroma.clamp(min=TINY)
    sextant = torch.where(green < blue, -sextant, sextant) + 6 * turns.unsqueeze(1)
    sextant = sextant - 6 * torch.round(sextant / 6)
    nearness = (((sextant - own).abs() - 3).abs() for own in (0, 2, -2))
    return torch.stack([value - chroma * (2 - near).clamp(0, 1) for near in nearness], dim=1)
