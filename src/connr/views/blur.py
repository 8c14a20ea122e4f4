"""Gaussian blur with a separate sigma for each image, computed like torchvision's `GaussianBlur`."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from connr.views.device_copy import to_device


def blur(
    images: Float[Tensor, "b c h w"], sigmas: Float[Tensor, " b"], chosen: Bool[Tensor, " b"], kernel: int
) -> Float[Tensor, "b c h w"]:
    """Convolves the chosen images with a Gaussian; edges are mirrored.

    Args:
        images: (b c h w).
        sigmas: (b), in pixels.
        chosen: (b), the images to blur.
        kernel: size in pixels, odd.
    """
    rows = chosen.nonzero().flatten()
    if not len(rows):
        return images
    b, (c, h, w), half = len(rows), images.shape[1:], kernel // 2
    offsets = torch.arange(-half, half + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigmas[rows].unsqueeze(1)) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(images.device)
    per_channel = weights.repeat_interleave(c, dim=0)

    on_device = to_device(images.device, rows)
    padded = F.pad(images[on_device], (half,) * 4, mode="reflect").reshape(1, b * c, h + 2 * half, w + 2 * half)
    across = F.conv2d(padded, per_channel.view(b * c, 1, 1, kernel), groups=b * c)
    both = F.conv2d(across, per_channel.view(b * c, 1, kernel, 1), groups=b * c)
    result = images.clone()
    result[on_device] = both.view(b, c, h, w)
    return result
