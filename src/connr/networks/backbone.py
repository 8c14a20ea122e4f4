"""What a backbone is to the rest: a network, how it wants its images, and how to make the same network again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from connr.errors import InputError


@dataclass(frozen=True)
class Input:
    """How a network wants its images: size x size pixels, of so many channels, resized by `interpolation`, standardised.

    Attributes:
        mean, std: per channel, in [0, 1] units; None where the data's own are to be taken.
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
        input: how it wants them.
        made: plain values from which `remade` makes the same network without weights, also where their file is gone.
        source: the file or place of the weights, in words.
    """

    network: nn.Module
    input: Input
    backbone_config: dict[str, Any]
    source: str


class Standardise(nn.Module):
    """Features (b f) -> (features - mean) / std, in half precision first, as a cache of them holds them.

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
    """f, found by one image (c h w), or row (d), of zeros; the encoder's buffers are left as they were.

    Raises:
        InputError: it does not take them, or does not give one row of features for each.
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
