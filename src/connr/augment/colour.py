"""Brightness, contrast, saturation and hue in random order, and grey; every image with its own parameters.

Values are in [0, 1]; the definitions, weights and clamping are torchvision's (`torchvision.transforms.functional`).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.augment.onto import onto

Images = Float[Tensor, "b c h w"]
Factors = Float[Tensor, " b"]


def grey(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Luma of ITU-R 601; a grey image is itself."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def blend(images: Images, other: Tensor, factors: Factors) -> Images:
    """factor · images + (1 - factor) · other, clamped to [0, 1]."""
    return torch.lerp(other.expand_as(images), images, factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def brightness(images: Images, factors: Factors) -> Images:
    return (images * factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(images: Images, factors: Factors) -> Images:
    return blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), factors)


def saturation(images: Images, factors: Factors) -> Images:
    return images if images.shape[1] == 1 else blend(images, grey(images), factors)


def hue(images: Images, turns: Factors) -> Images:
    """Hue turned by `turns` of a circle, in HSV."""
    if images.shape[1] == 1:
        return images
    value, smallest = images.amax(dim=1), images.amin(dim=1)
    chroma = value - smallest
    red, green, blue = images.unbind(dim=1)
    span = torch.where(chroma > 0, chroma, 1.0)
    sextant = torch.where(
        value == red, (green - blue) / span, torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span)
    )
    sextant = sextant + 6 * turns.view(-1, 1, 1)
    # HSV -> RGB in closed form: channel n is V - C max(0, min(k, 4 - k, 1)), k = (n + H/60°) mod 6, n = 5, 3, 1
    k = (sextant.unsqueeze(1) + torch.arange(5.0, 0.0, -2.0, device=images.device).view(1, 3, 1, 1)) % 6
    return value.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4 - k).clamp_(0, 1)


OPERATIONS = (brightness, contrast, saturation, hue)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # the factor of each that changes nothing


def draw_jitter(
    count: int, strengths: tuple[float, float, float, float], generator: torch.Generator
) -> tuple[Float[Tensor, "b 4"], Int[Tensor, "b 4"]]:
    """Factors in 1 ± strength for brightness, contrast, saturation, turns in ± strength for hue; and the order of the four."""
    uniform = 2 * torch.rand(count, 4, generator=generator) - 1
    factors = uniform * torch.tensor(strengths)
    factors[:, :3] = (factors[:, :3] + 1).clamp(min=0)
    return factors, torch.rand(count, 4, generator=generator).argsort(dim=1)


def jitter(images: Images, factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"], chosen: Bool[Tensor, " b"]) -> Images:
    """The four operations on the chosen images: operation order[i, s] of image i in turn s."""
    images = images.clone()
    for turn in range(4):
        for index, operation in enumerate(OPERATIONS):
            if (factors[:, index] == NEUTRAL[index]).all():
                continue
            rows = (chosen & (order[:, turn] == index)).nonzero().flatten()
            if len(rows):
                on_device = onto(images.device, rows)
                images[on_device] = operation(images[on_device], onto(images.device, factors[rows, index]))
    return images


def greyed(images: Images, chosen: Bool[Tensor, " b"]) -> Images:
    """The chosen images without colour."""
    mask = onto(images.device, chosen).view(-1, 1, 1, 1)
    return torch.where(mask, grey(images).expand_as(images), images)
