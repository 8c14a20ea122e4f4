"""Brightness, contrast, saturation and hue in random order, and grey, with separate parameters for each image.

Values are in [0, 1]; definitions, weights and clamping are those of `torchvision.transforms.functional`. Operations on chosen
images work in place: a copy takes as long as one operation.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.views.device_copy import to_device

Images = Float[Tensor, "b c h w"]
Factors = Float[Tensor, " b"]
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601
TINY = 1e-20  # avoids 0 / 0 for grey pixels


def grey(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Luma of ITU-R 601; grey images are unchanged."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(dim=1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


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
    """Shifts the hue in HSV by `turns` of the colour circle.

    With V and m the largest and smallest channel, C = V - m and H in sextants from red, H = ±(1 + (g + b - r - m) / C),
    negative where b > g: on either half of the hexagon g, b and -r rise in turn, each by C. Then a channel whose own hue
    is h is V - C clamp(d - 1, 0, 1), where d is the distance from H to h on the circle. Branches took four times as long.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(dim=1)
    value, smallest = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = value - smallest
    sextant = (green + blue).sub_(red).add_(value).sub_(smallest, alpha=2).div_(chroma.clamp(min=TINY))
    sextant = sextant.copysign_(green - blue).add_(6 * turns.view(-1, 1, 1))
    sextant.sub_(torch.round(sextant / 6), alpha=6)  # back to -3..3
    nearness = ((sextant - own).abs_().sub_(3).abs_() for own in (0, 2, -2))  # 3 - d
    return torch.stack([torch.addcmul(value, chroma, near.neg_().add_(2).clamp_(0, 1), value=-1) for near in nearness], dim=1)


CONTRAST, SATURATION, HUE = 1, 2, 3  # brightness is 0
NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # the identity of each operation


def draw_jitter(
    count: int, strengths: tuple[float, float, float, float], generator: torch.Generator
) -> tuple[Float[Tensor, "b 4"], Int[Tensor, "b 4"]]:
    """Draws factors and the order of operations, uniformly, like torchvision's `ColorJitter`.

    Args:
        count: number of images.
        strengths: of brightness, contrast, saturation and hue.
        generator: on the CPU.

    Returns:
        (b 4) factors of brightness, contrast and saturation in 1 ± strength, at least 0, and turns of hue in ± strength;
        (b 4) the order of the operations.
    """
    lows = [max(0, 1 - strength) for strength in strengths[:3]] + [-strengths[HUE]]
    highs = [1 + strength for strength in strengths[:3]] + [strengths[HUE]]
    middles, halves = ([(high + sign * low) / 2 for low, high in zip(lows, highs, strict=True)] for sign in (1, -1))
    uniform = 2 * torch.rand(count, 4, generator=generator) - 1
    factors = uniform * torch.tensor(halves) + torch.tensor(middles)
    return factors, torch.rand(count, 4, generator=generator).argsort(dim=1)


def jitter(images: Images, factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"], chosen: Bool[Tensor, " b"]) -> Images:
    """Applies the four operations to the chosen images in place; step s of image i is operation order[i, s]."""
    of_kind = _jitter_grey if images.shape[1] == 1 else _jitter_rgb
    return of_kind(images, factors, order, chosen)


def _jitter_grey(
    images: Images, factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"], chosen: Bool[Tensor, " b"]
) -> Images:
    for turn in range(4):
        for index, operation in enumerate((brightness, contrast)):
            if (factors[:, index] == NEUTRAL[index]).all():
                continue
            rows = (chosen & (order[:, turn] == index)).nonzero().flatten()
            if len(rows):
                on_device = to_device(images.device, rows)
                images[on_device] = operation(images[on_device], to_device(images.device, factors[rows, index]))
    return images


def _jitter_rgb(
    images: Images, factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"], chosen: Bool[Tensor, " b"]
) -> Images:
    """Brightness, contrast and saturation are a 3 x 3 matrix per image (and its mean grey), applied in one product per step.

    Images are sorted by the step of hue. Then the images with the first, second or third other operation before hue are at
    the end of the batch, and those with it after hue at the beginning.
    """
    turn_of_hue = (order == HUE).int().argmax(dim=1)
    rows = chosen.nonzero().flatten()
    rows = rows[turn_of_hue[rows].argsort(stable=True)]
    if not len(rows):
        return images
    b, device, on_device = len(rows), images.device, to_device(images.device, rows)
    earlier = torch.bincount(turn_of_hue[rows], minlength=4).cumsum(dim=0).tolist()  # images with hue in step 0..t
    others = order[rows][order[rows] != HUE].view(b, 3)
    matrices, of_mean = (to_device(device, part) for part in linear(others, factors[rows].gather(1, others)))

    batch = images[on_device]
    flat = batch.flatten(2)
    for which in range(3):
        here = slice(earlier[which], b)
        _apply(flat[here], matrices[here, which], of_mean[here, which])
    if (factors[:, HUE] != NEUTRAL[HUE]).any():
        batch = hue(batch, to_device(device, factors[rows, HUE]))
        flat = batch.flatten(2)
    for which in range(3):
        here = slice(0, earlier[which])
        _apply(flat[here], matrices[here, which], of_mean[here, which])
    images[on_device] = batch
    return images


def linear(
    operations: Int[Tensor, "b 3"], factors: Float[Tensor, "b 3"]
) -> tuple[Float[Tensor, "b 3 3 3"], Float[Tensor, "b 3"]]:
    """Brightness, contrast and saturation as y = M x + a · (mean grey of x): M (b 3 3 3) and a (b 3)."""
    identity, luma = torch.eye(3), torch.tensor(LUMA).expand(3, 3)
    factor, rest = factors[..., None, None], (1 - factors)[..., None, None]
    matrices = factor * identity + rest * luma * (operations == SATURATION)[..., None, None]
    return matrices, (1 - factors) * (operations == CONTRAST)


def _apply(images: Float[Tensor, "b 3 p"], matrices: Float[Tensor, "b 3 3"], of_mean: Factors) -> None:
    """clamp(M x + a · (mean grey of x), 0, 1) in place."""
    if not len(images):
        return
    mean_grey = images.mean(dim=2) @ torch.tensor(LUMA, device=images.device)
    torch.clamp(torch.baddbmm((of_mean * mean_grey).view(-1, 1, 1), matrices, images), 0, 1, out=images)


def greyed(images: Images, chosen: Bool[Tensor, " b"]) -> Images:
    """Removes the colour of the chosen images in place."""
    return _replaced(images, chosen, grey)


def solarised(images: Images, chosen: Bool[Tensor, " b"]) -> Images:
    """Solarises the chosen images in place: min(v, 1 - v)."""
    return _replaced(images, chosen, lambda some: torch.minimum(some, 1 - some))


def _replaced(images: Images, chosen: Bool[Tensor, " b"], operation: Callable[[Images], Tensor]) -> Images:
    rows = to_device(images.device, chosen.nonzero().flatten())
    images[rows] = operation(images[rows]).expand(-1, images.shape[1], -1, -1)
    return images
