"""Where each pixel of a view is read from: crop and flip as one sampling of the image, affine and elastic warp as another.

Coordinates are (x, y) in [-1, 1] over the whole image, the outer edges of the border pixels being -1 and 1.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.views.device_copy import to_device

Matrices = Float[Tensor, "b 3 3"]


def draw_crops(
    count: int, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Float[Tensor, "b 4"]:
    """Boxes (top, left, height, width) in whole pixels, distributed as torchvision's `RandomResizedCrop` draws them.

    Ten attempts at an area uniform in `scale` and an aspect uniform in log `ratio`; the first that fits, else the
    largest central box of an allowed aspect.
    """
    return boxes_in(draw_boxes(count, scale, ratio, generator), torch.tensor([size]), ratio)


TRIES = 10


def draw_boxes(
    count: int, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Float[Tensor, "b 22"]:
    """What a box is made of, whatever the size of the image: `TRIES` shares of the area and aspects, and a corner in 0..1."""
    area = torch.empty(count, TRIES).uniform_(*scale, generator=generator)
    aspect = torch.empty(count, TRIES).uniform_(*(math.log(r) for r in ratio), generator=generator).exp()
    return torch.cat([area, aspect, torch.rand(2, count, generator=generator).T], dim=1)


def boxes_in(drawn: Float[Tensor, "b 22"], sizes: Int[Tensor, "#b 2"], ratio: tuple[float, float]) -> Float[Tensor, "b 4"]:
    """The boxes of `draw_boxes` in images of these heights and widths."""
    h, w = sizes.float().T.unsqueeze(2)
    area, aspect, corner = drawn[:, :TRIES] * h * w, drawn[:, TRIES : 2 * TRIES], drawn[:, 2 * TRIES :].T
    widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    first = fits.float().argmax(dim=1, keepdim=True)
    height, width = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    h, w = h.squeeze(1), w.squeeze(1)
    top = (corner[0] * (h - height + 1)).floor().minimum(h - height)  # rounding must not reach past the last row
    left = (corner[1] * (w - width + 1)).floor().minimum(w - width)
    boxes = torch.stack([top, left, height, width], dim=1)

    whole_height = torch.where(w / h < ratio[0], (w / ratio[0]).round(), h)
    whole_width = torch.where(w / h > ratio[1], (h * ratio[1]).round(), w)
    central_top, central_left = ((h - whole_height) / 2).floor(), ((w - whole_width) / 2).floor()
    central = torch.stack([central_top, central_left, whole_height, whole_width], dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), boxes, central)


def cropped(
    images: Float[Tensor, "b c h w"], boxes: Float[Tensor, "b 4"] | None, flipped: Bool[Tensor, " b"] | None
) -> Float[Tensor, "b c h w"]:
    """Each image's box (top, left, height, width) at the size of the whole, left and right swapped where `flipped`.

    It is torchvision's `resized_crop`: bilinear, and at its border a box repeats its last pixel. A box is never larger than
    the image, so nothing shrinks, and antialiasing would change nothing.
    """
    b, (h, w), device = len(images), images.shape[2:], images.device
    top, left, height, width = torch.tensor([0.0, 0.0, h, w]) if boxes is None else to_device(device, boxes).T.unsqueeze(2)
    y, x = (_reads(start, length, size, device) for start, length, size in ((top, height, h), (left, width, w)))
    if flipped is not None:
        x = torch.where(to_device(device, flipped).unsqueeze(1), x.flip(-1), x)
    grid = torch.stack([x.unsqueeze(-2).expand(b, h, w), y.unsqueeze(-1).expand(b, h, w)], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def central_squares(sizes: Int[Tensor, "b 2"]) -> Float[Tensor, "b 4"]:
    """The boxes (top, left, height, width) of the central squares of images of these heights and widths."""
    side = sizes.amin(dim=1, keepdim=True).float()
    return torch.cat([(sizes - side) / 2, side.expand(-1, 2)], dim=1)


def cut(
    images: Float[Tensor, "b c short long"],
    sizes: Int[Tensor, "b 2"],
    boxes: Float[Tensor, "b 4"],
    flipped: Bool[Tensor, " b"] | None,
    size: int,
) -> Float[Tensor, "b c s s"]:
    """Each photograph's box at size x size pixels, left and right swapped where `flipped`.

    It is torchvision's `resized_crop` of the photograph, bilinear with antialiasing, but for what was lost when it was stored.

    Args:
        images: whole photographs, resized to one shape; an upright one was transposed before.
        sizes: their original heights and widths.
        boxes: (top, left, height, width) in original pixels.
    """
    upright = sizes[:, :1] > sizes[:, 1:]
    shares = boxes / sizes.float().repeat(1, 2)  # of the sides
    vertical, horizontal = shares[:, 0::2], shares[:, 1::2]
    short, long = torch.where(upright, horizontal, vertical), torch.where(upright, vertical, horizontal)
    along, across = _weights(short, images.shape[2], size), _weights(long, images.shape[3], size)
    view = along.unsqueeze(1) @ images @ across.unsqueeze(1).mT
    view = torch.where(upright.view(-1, 1, 1, 1), view.mT, view)
    if flipped is not None:
        view = torch.where(to_device(view.device, flipped).view(-1, 1, 1, 1), view.flip(3), view)
    return view


def _weights(interval: Float[Tensor, "b 2"], stored: int, size: int) -> Float[Tensor, "b size stored"]:
    """What each of `size` pixels, which divide an interval of a side, takes of each `stored` one: bilinear, antialiased.

    Args:
        interval: where it begins and how long it is, as shares of the side.
    """
    start, length = (interval * stored).T.unsqueeze(2)
    step = (length / size).unsqueeze(2)
    middles = start.unsqueeze(2) + torch.arange(0.5, size, device=interval.device).view(1, -1, 1) * step
    pixels = torch.arange(0.5, stored, device=interval.device)
    inside = (pixels + 0.5).minimum(start + length) - (pixels - 0.5).maximum(start)
    triangle: Tensor = (1 - (pixels - middles).abs() / step.clamp(min=1)).clamp(min=0) * inside.clamp(min=0).unsqueeze(1)
    return triangle / triangle.sum(dim=2, keepdim=True)


def _reads(start: Tensor, length: Tensor, size: int, device: torch.device) -> Float[Tensor, "*b size"]:
    """Coordinates at which `size` pixels read an interval of a side of `size` pixels, from its first pixel to its last."""
    middles = torch.arange(0.5, size, device=device)
    pixels = (middles * (length / size) - 0.5).clamp(min=0).minimum(length - 1) + start
    return (pixels + 0.5) * (2 / size) - 1


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
    images: Float[Tensor, "b c h w"], matrices: Matrices | None, warps: Float[Tensor, "b 2 knots knots"] | None
) -> Float[Tensor, "b c h w"]:
    """Each image read, bilinearly, at matrix · (pixel + displacement); outside it is black."""
    b, (h, w) = len(images), images.shape[2:]
    identity = torch.eye(2, 3, device=images.device).unsqueeze(0)
    grid = F.affine_grid(identity, [1, 1, h, w], align_corners=False)
    if warps is not None:
        grid = grid + displacements(to_device(images.device, warps), (h, w))
    grid = grid.expand(b, -1, -1, -1)
    if matrices is not None:
        matrices = to_device(images.device, matrices)
        grid = (grid.flatten(1, 2) @ matrices[:, :2, :2].mT + matrices[:, None, :2, 2]).view(b, h, w, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
