"""`Backbone`: a pretrained network, its input format, and a config to rebuild it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from connr.errors import InputError


@dataclass(frozen=True)
class Input:
    """The input format of a network.

    Attributes:
        size: side of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean: per channel, for pixels in [0, 1]; None for the mean of the data.
        std: per channel; None for the standard deviation of the data.
        interpolation: `bilinear` or `bicubic`.
    """

    size: int
    channels: int = 3
    mean: list[float] | None = None
    std: list[float] | None = None
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Backbone:
    """A network with weights.

    Attributes:
        network: images (b c h w), standardised, to features (b f).
        input: format of the images.
        backbone_config: plain values from which `rebuild` builds the network without weights.
        source: description of the origin of the weights.
    """

    network: nn.Module
    input: Input
    backbone_config: dict[str, Any]
    source: str


class Standardise(nn.Module):
    """Features (b f) -> (features - mean) / std, rounded to half precision first, as in the cache of features.

    The result has the dtype of the buffers `mean` and `std`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, features: Tensor) -> Tensor:
        return (features.half().to(self.mean.dtype) - self.mean) / self.std


def features_out(encoder: nn.Module, *shape: int) -> int:
    """The number of features f, found with one image (c h w) or row (d) of zeros. Does not modify the encoder.

    Raises:
        InputError: the encoder does not accept this shape, or does not return (1, f).
    """
    modes = {module: module.training for module in encoder.modules()}
    try:
        with torch.no_grad():
            features: Tensor = encoder.eval()(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, AssertionError) as fault:
        raise InputError(f"the backbone does not take images of shape {list(shape)}: {fault}") from fault
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"the backbone gives {found} for one image, should give features [1, f].")
    return features.shape[1]
