"""Where each output pixel is read from: crop, flip, affine and elastic warp as one sampling of the image.

Coordinates are (x, y) in [-1, 1] over the whole image, the outer edges of the border pixels being -1 and 1.
An output pixel p is read at  crop(flip(affine(p + warp(p)))), so that the image is interpolated once only.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from connr.augment.onto import onto

Matrices = Float[Tensor, "b 3 3"]


def draw_crops(
    count: int, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Float[Tensor, "b 4"]:
    """Boxes (top, left, height, width) in whole pixels, distributed as torchvision's `RandomResizedCrop` draws them.

    Ten attempts at an area uniform in `scale` and an aspect uniform in log `ratio`; the first that fits, else the
    largest central box of an allowed aspect.
    """
    h, w = size
    area = torch.empty(count, 10).uniform_(*scale, generator=generator) * h * w
    aspect = torch.empty(count, 10).uniform_(*(math.log(r) for r in ratio), generator=generator).exp()
    widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    first = fits.float().argmax(dim=1, keepdim=True)
    height, width = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    corner = torch.rand(2, count, generator=generator)
    top = (corner[0] * (h - height + 1)).floor().minimum(h - height)  # rounding must not reach past the last row
    left = (corner[1] * (w - width + 1)).floor().minimum(w - width)
    boxes = torch.stack([top, left, height, width], dim=1)

    whole_width, whole_height = float(w), float(h)
    if w / h < ratio[0]:
        whole_height = float(round(w / ratio[0]))
    elif w / h > ratio[1]:
        whole_width = float(round(h * ratio[1]))
    central = torch.tensor([(h - whole_height) // 2, (w - whole_width) // 2, whole_height, whole_width])
    return torch.where(fits.any(dim=1, keepdim=True), boxes, central)


def crop_matrices(boxes: Float[Tensor, "b 4"], size: tuple[int, int]) -> Matrices:
    """Output coordinates -> coordinates of the box (top, left, height, width) in an image of `size`."""
    h, w = size
    top, left, height, width = boxes.unbind(dim=1)
    matrices = torch.eye(3).repeat(len(boxes), 1, 1)
    matrices[:, 0, 0], matrices[:, 0, 2] = width / w, (2 * left + width) / w - 1
    matrices[:, 1, 1], matrices[:, 1, 2] = height / h, (2 * top + height) / h - 1
    return matrices


def flip_matrices(count: int, probability: float, generator: torch.Generator) -> Matrices:
    """Left and right swapped with `probability`."""
    matrices = torch.eye(3).repeat(count, 1, 1)
    matrices[:, 0, 0] = torch.where(torch.rand(count, generator=generator) < probability, -1.0, 1.0)
    return matrices


def affine_matrices(
    count: int, degrees: float, shift: float, zoom: tuple[float, float], shear: float, generator: torch.Generator
) -> Matrices:
    """Rotation by up to ±degrees, shift by up to ±shift of the side, zoom, shear by up to ±shear degrees along x."""

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    angle, slant = draw(-degrees, degrees).deg2rad(), draw(-shear, shear).deg2rad().tan()
    size = 1 / draw(*zoom)
    matrices = torch.eye(3).repeat(count, 1, 1)
    matrices[:, 0, 0], matrices[:, 0, 1] = angle.cos() * size, (slant * angle.cos() - angle.sin()) * size
    matrices[:, 1, 0], matrices[:, 1, 1] = angle.sin() * size, (slant * angle.sin() + angle.cos()) * size
    matrices[:, 0, 2], matrices[:, 1, 2] = 2 * draw(-shift, shift), 2 * draw(-shift, shift)
    return matrices


def draw_warps(count: int, strength: float, knots: int, generator: torch.Generator) -> Float[Tensor, "b 2 knots knots"]:
    """Displacements at knots x knots points, normal with a std of `strength` of the side."""
    return 2 * strength * torch.randn(count, 2, knots, knots, generator=generator)


def displacements(warps: Float[Tensor, "b 2 knots knots"], size: tuple[int, int]) -> Float[Tensor, "b h w 2"]:
    """A smooth displacement of every pixel: that of the knots, bicubic between them."""
    return F.interpolate(warps, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def sample(
    images: Float[Tensor, "b c h w"],
    matrices: Matrices | None,
    warps: Float[Tensor, "b 2 knots knots"] | None,
    padding: str,
) -> Float[Tensor, "b c h w"]:
    """Each image read, bilinearly, at matrix · (pixel + displacement); outside it `padding` is `border` or `zeros`."""
    b, (h, w) = len(images), images.shape[2:]
    identity = torch.eye(2, 3, device=images.device).unsqueeze(0)
    grid = F.affine_grid(identity, [1, 1, h, w], align_corners=False)
    if warps is not None:
        grid = grid + displacements(onto(images.device, warps), (h, w))
    grid = grid.expand(b, -1, -1, -1)
    if matrices is not None:
        matrices = onto(images.device, matrices)
        grid = (grid.flatten(1, 2) @ matrices[:, :2, :2].mT + matrices[:, None, :2, 2]).view(b, h, w, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
