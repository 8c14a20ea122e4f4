"""Feature extraction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.data.rows import Rows, parts

AT_A_TIME = 512


def input_dtype(network: nn.Module) -> torch.dtype:
    """float64 if the first parameter of the network is float64, else float32."""
    first = next(network.parameters(), None)
    return torch.float64 if first is not None and first.dtype == torch.float64 else torch.float32


def extract(
    network: nn.Module,
    images: Rows,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    share: slice = slice(None),
    at_a_time: int = AT_A_TIME,
) -> Float[Tensor, "n d"]:
    """Features (n d) of images, on `device`, not normalised. Does not modify the network.

    Args:
        network: on `device`, in evaluation mode (see `evaluating`).
        images: (n ...), on any device; moved to `device` in batches.
        normalise: maps a batch of images to the input of the network.
        device: of the network.
        share: the images to extract features of.
        at_a_time: batch size.
    """
    dtype = input_dtype(network)
    with torch.no_grad():
        rows = [network(normalise(part.to(device)).to(dtype)) for part in parts(images, at_a_time, share)]
    return torch.cat(rows)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Sets evaluation mode; on exit every module gets back the mode it had before."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
