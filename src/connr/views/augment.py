"""Augmentation: uint8 images -> normalised random views. A setting of None or 0 disables an operation."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from connr.recipe.photograph import Photograph
from connr.views import colour, fused, geometry
from connr.views.base import Views
from connr.views.blur import blur
from connr.views.device_copy import to_device

# Pixels processed together on a CPU. Smaller blocks use the cache better, larger blocks need fewer calls; above these sizes
# the system reclaims memory between calls, with 5,000 page faults per batch.
VIEWED_AT_ONCE, COMPILED_AT_ONCE, NORMALISED_AT_ONCE = (images * 32 * 32 for images in (128, 64, 32))
LAYOUT = torch.channels_last  # on 2 AVX-512 cores a step of the digits network takes 12 % (width 24) to 20 % less than without


class Drawn(NamedTuple):
    """The parameters of one view of b images, one row per image; None for disabled operations."""

    boxes: Float[Tensor, "b m"] | None  # for photographs, the output of `draw_boxes`: their sizes are not known yet
    flipped: Bool[Tensor, " b"] | None
    matrices: Float[Tensor, "b 3 3"] | None
    warps: Float[Tensor, "b 2 knots knots"] | None
    factors: Float[Tensor, "b 4"] | None
    order: Int[Tensor, "b 4"] | None
    jittered: Bool[Tensor, " b"] | None
    greyed: Bool[Tensor, " b"] | None
    sigmas: Float[Tensor, " b"] | None
    blurred: Bool[Tensor, " b"] | None
    solarised: Bool[Tensor, " b"] | None

    def rows(self, share: slice | Int[Tensor, " m"]) -> "Drawn":
        """The parameters of some of the images."""
        return Drawn(*(None if part is None else part[share] for part in self))


class Augment(Views):
    """A random view of each image of a batch; two calls make the two views.

    Args:
        mean: per channel, for pixels in [0, 1]; views are standardised as (view - mean) / std.
        std: per channel, > 0.
        crop_scale: range of the area of a random crop, as a share of the image, resized to the image's size; None for no crop.
        crop_ratio: range of the crop's aspect ratio, width / height.
        flip: probability of a horizontal flip.
        rotate: largest rotation in degrees, in both directions.
        shift: largest shift in both directions, as a share of the side.
        zoom: range of the zoom factor.
        shear: largest shear in degrees, in both directions.
        warp: std of a smooth elastic displacement, as a share of the side.
        warp_knots: the displacement has warp_knots x warp_knots control points.
        jitter: strengths of brightness, contrast, saturation and hue, applied in random order; None for no jitter.
        jitter_probability: per image; applied first.
        grey_probability: per image; applied second.
        blur_probability: per image; applied third.
        blur_kernel: in pixels, odd, at most 2 sides - 1; None for a tenth of the side.
        blur_sigma: range in pixels.
        solarise_probability: per image; applied last.
        photograph: the format of rows of photographs, whose views are cropped from the whole picture; None for images.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        crop_scale: tuple[float, float] | None = None,
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.0,
        rotate: float = 0.0,
        shift: float = 0.0,
        zoom: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
        warp: float = 0.0,
        warp_knots: int = 3,
        jitter: tuple[float, float, float, float] | None = None,
        jitter_probability: float = 0.8,
        grey_probability: float = 0.0,
        blur_probability: float = 0.0,
        blur_kernel: int | None = None,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        solarise_probability: float = 0.0,
        photograph: Photograph | None = None,
    ) -> None:
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
        self.crop_scale, self.crop_ratio, self.flip = crop_scale, crop_ratio, flip
        self.rotate, self.shift, self.zoom, self.shear = rotate, shift, zoom, shear
        self.affine = bool(rotate or shift or shear) or zoom != (1.0, 1.0)
        self.warp, self.warp_knots = warp, warp_knots
        self.jitter, self.jitter_probability, self.grey_probability = jitter, jitter_probability, grey_probability
        self.blur_probability, self.blur_kernel, self.blur_sigma = blur_probability, blur_kernel, blur_sigma
        self.solarise_probability = solarise_probability
        self.photograph = photograph
        self._coloured: Callable[..., Tensor] | None = None

    def compile(self) -> None:
        """Compiles the jitter of RGB images, the slowest operation, with torch.compile."""
        self._coloured = torch.compile(fused.coloured, dynamic=True)

    def normalise(self, images: UInt8[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        """Images without augmentation, standardised; of a photograph the central square."""
        squares = self._squares(images)
        return self._in_parts(squares, lambda rows: _floats(squares[rows]), NORMALISED_AT_ONCE)

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Drawn:
        """The parameters of one view of `count` images (c h w) or photographs (m).

        Drawn on the CPU, so that the result is the same on every device and rank.
        """
        boxes = flipped = matrices = knots = factors = order = jittered = greyed = sigmas = blurred = solarised = None
        if self.crop_scale and len(shape) == 1:
            boxes = geometry.draw_boxes(count, self.crop_scale, self.crop_ratio, generator)
        elif self.crop_scale:
            boxes = geometry.draw_crops(count, (shape[1], shape[2]), self.crop_scale, self.crop_ratio, generator)
        if self.flip:
            flipped = torch.rand(count, generator=generator) < self.flip
        if self.affine:
            matrices = geometry.affine_matrices(count, self.rotate, self.shift, self.zoom, self.shear, generator)
        if self.warp:
            knots = geometry.draw_warps(count, self.warp, self.warp_knots, generator)
        if self.jitter is not None:
            factors, order = colour.draw_jitter(count, self.jitter, generator)
            jittered = torch.rand(count, generator=generator) < self.jitter_probability
        if self.grey_probability:
            greyed = torch.rand(count, generator=generator) < self.grey_probability
        if self.blur_probability:
            sigmas = torch.empty(count).uniform_(*self.blur_sigma, generator=generator)
            blurred = torch.rand(count, generator=generator) < self.blur_probability
        if self.solarise_probability:
            solarised = torch.rand(count, generator=generator) < self.solarise_probability
        return Drawn(boxes, flipped, matrices, knots, factors, order, jittered, greyed, sigmas, blurred, solarised)

    def apply(self, images: UInt8[Tensor, "b ..."], drawn: Drawn, over: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """Computes the view of each image.

        Args:
            images: uint8 (b c h w), or rows of photographs (b m).
            drawn: parameters of the b views.
            over: an earlier view whose memory is reused if it has the right shape.
        """
        squares = self._squares(images)
        if self._coloured is None or drawn.factors is None or squares.shape[1] == 1:
            return self._in_parts(squares, lambda rows: self._view(images[rows], drawn.rows(rows), None), VIEWED_AT_ONCE, over)
        assert drawn.order is not None
        assert drawn.jittered is not None
        steps = [to_device(images.device, part) for part in fused.steps(drawn.factors, drawn.order, drawn.jittered)]
        compiled, plain = self._coloured, drawn._replace(factors=None)

        def part(rows: slice) -> Tensor:
            return self._view(images[rows], plain.rows(rows), lambda view: compiled(view, *(step[rows] for step in steps)))

        return self._in_parts(squares, part, COMPILED_AT_ONCE, over)

    def _view(
        self, images: UInt8[Tensor, "b ..."], drawn: Drawn, jitter: Callable[[Tensor], Tensor] | None
    ) -> Float[Tensor, "b c h w"]:
        view = self._cut(images, drawn) if images.ndim == 2 else _floats(images)
        if images.ndim == 4 and (drawn.boxes is not None or drawn.flipped is not None):
            view = geometry.cropped(view, drawn.boxes, drawn.flipped)
        if drawn.matrices is not None or drawn.warps is not None:
            view = geometry.sample(view, drawn.matrices, drawn.warps)
        if jitter is not None:
            view = jitter(view)
        elif drawn.factors is not None and drawn.order is not None and drawn.jittered is not None:
            view = colour.jitter(view, drawn.factors, drawn.order, drawn.jittered)
        if drawn.greyed is not None:
            view = colour.greyed(view, drawn.greyed)
        if drawn.sigmas is not None and drawn.blurred is not None:
            view = blur(view, drawn.sigmas, drawn.blurred, self.blur_kernel or tenth(min(view.shape[2:])))
        if drawn.solarised is not None:
            view = colour.solarised(view, drawn.solarised)
        return view

    def _squares(self, images: UInt8[Tensor, "b ..."]) -> UInt8[Tensor, "b c h w"]:
        if images.ndim == 4:
            return images
        assert self.photograph is not None  # set for rows of photographs
        squares: Tensor = images[:, : self.photograph.square_bytes].unflatten(1, self.photograph.square.shape)
        return squares

    def _cut(self, rows: UInt8[Tensor, "b m"], drawn: Drawn) -> Float[Tensor, "b c s s"]:
        """The crop and flip of photographs."""
        kept = self.photograph
        assert kept is not None
        whole = rows[:, kept.square_bytes : kept.square_bytes + kept.whole_bytes]
        sizes = rows[:, -8:].contiguous().view(torch.int32)
        if drawn.boxes is None:
            boxes = geometry.central_squares(sizes)
        else:
            boxes = geometry.boxes_in(to_device(rows.device, drawn.boxes), sizes, self.crop_ratio)
        return geometry.cut(_floats(whole.unflatten(1, kept.whole_shape)), sizes, boxes, drawn.flipped, kept.square.size)

    def _in_parts(self, images: Tensor, part: Callable[[slice], Tensor], pixels: int, over: Tensor | None = None) -> Tensor:
        """Computes `part` for blocks of images and standardises the results, which are modified in place."""
        mean, std = to_device(images.device, self.mean), to_device(images.device, self.std)
        b, h, w = len(images), images.shape[2], images.shape[3]
        at_once = max(1, pixels // (h * w)) if images.device.type == "cpu" else max(1, b)
        whole = over
        if whole is None or (whole.shape, whole.device) != (images.shape, images.device):
            whole = torch.empty(images.shape, device=images.device, memory_format=LAYOUT)
        for start in range(0, b, at_once):
            rows = slice(start, min(start + at_once, b))
            whole[rows].copy_(part(rows).sub_(mean).div_(std))
        return whole


def _floats(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return images.float().div_(255)


def tenth(side: int) -> int:
    """The kernel size of the blur in SimCLR and BYOL: a tenth of the side, odd; 23 for 224 pixels."""
    return max(3, side // 10 | 1)
