"""The order of an epoch: a permutation that depends on the seed and the epoch alone."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from connr.randomness import stream


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Int[Tensor, " b"]]:
    """Index batches of one epoch, each image at most once; the incomplete last one is left out, other images each epoch."""
    order = torch.randperm(n, generator=stream(seed, "order", epoch))
    yield from order[: n // batch_size * batch_size].split(batch_size)
