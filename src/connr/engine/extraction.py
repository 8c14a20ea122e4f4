"""The features that are clustered: L2-normalised projections of the plain images, by the target network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.data.rows import Rows, parts
from connr.frameworks.framework import on_sphere

AT_A_TIME = 512


def input_dtype(network: nn.Module) -> torch.dtype:
    """float64 for a network whose first weights are in double precision, else float32."""
    first = next(network.parameters(), None)
    return torch.float64 if first is not None and first.dtype == torch.float64 else torch.float32


def extract(
    representation: nn.Module,
    images: Rows,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    share: slice = slice(None),
    at_a_time: int = AT_A_TIME,
) -> Float[Tensor, "n d"]:
    """Features (n d) of un-augmented images, on `device`, in float64 where the network is, else in float32.

    Writes nothing to the network.

    Args:
        representation: encoder and projector, on `device`, in evaluation mode: a finished model is, and a network that is
            trained further is inside `evaluating`.
        images: (n ...) anywhere; moved to the device a few hundred at a time.
        normalise: some of the images -> what the network takes.
        share: of the images, that features are wanted of.
        at_a_time: images that the network is given together.
    """
    dtype = input_dtype(representation)
    with torch.no_grad():
        rows = [representation(normalise(part.to(device)).to(dtype)) for part in parts(images, at_a_time, share)]
    return on_sphere(torch.cat(rows))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; after it every module has its own mode again, those in evaluation mode before too."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
