"""The features that are clustered: L2-normalised projections of the plain images, by the target network."""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from connr.frameworks.framework import on_sphere

AT_A_TIME = 512


def extract(
    representation: nn.Module, images: UInt8[Tensor, "n c h w"], normalise: Callable[[Tensor], Tensor], device: torch.device
) -> Float[Tensor, "n d"]:
    """Features (n d) of un-augmented images, in float32 on `device`; the network's mode is left as it was.

    Args:
        representation: encoder and projector, on `device`.
        images: anywhere; moved to the device a few hundred at a time.
        normalise: uint8 images -> what the network takes.
    """
    was_training = representation.training
    representation.eval()
    with torch.no_grad():
        rows = [representation(normalise(part.to(device))) for part in images.split(AT_A_TIME)]
    representation.train(was_training)
    return on_sphere(torch.cat(rows))
