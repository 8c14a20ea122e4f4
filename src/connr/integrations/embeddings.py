"""The features that a loop's criterion clusters: the target network on the plain images, in the order of their indices."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.engine.extraction import evaluating


def extract(
    project: Callable[[Tensor], Tensor], batches: Iterable[Any], network: nn.Module, device: torch.device | str | None = None
) -> Float[Tensor, "n d"]:
    """Projections (n d) without gradient, every module of `network` in evaluation mode meanwhile.

    Args:
        project: images (b c h w) -> projections (b d), by the target network.
        batches: of plain images, or of tuples that begin with them, in the order of their indices: not shuffled, none left
            out.
        network: whose modes are set and put back.
        device: where the images go; None leaves them.
    """
    with evaluating(network), torch.no_grad():
        rows = [project((batch if isinstance(batch, Tensor) else batch[0]).to(device)).detach() for batch in batches]
    return torch.cat(rows)
