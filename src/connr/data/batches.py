"""The order of an epoch: a permutation that depends on the seed and the epoch alone; and the rows in that order."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import torch
from jaxtyping import Int
from torch import Tensor

from connr.data.rows import Rows
from connr.randomness import stream


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Int[Tensor, " b"]]:
    """Index batches of one epoch, each image at most once; the incomplete last one is left out, other images each epoch."""
    order = torch.randperm(n, generator=stream(seed, "order", epoch))
    yield from order[: n // batch_size * batch_size].split(batch_size)


def fetched(
    images: Rows, order: Iterable[Int[Tensor, " b"]], own: slice, device: torch.device
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, " m"], Tensor]]:
    """The rows of each batch, the same ones wherever they lie; out of a file they are read while the batch before is used.

    Args:
        images: on `device`, or on the CPU.
        order: batches of indices.
        own: the part of each batch that is fetched.

    Yields:
        A batch (b) as it came; on the device: the indices (m) of its own part, and their rows (m ...).
    """
    free = device.type == "cuda"  # the host need not wait for a copy to the device
    if images.device.type != "cpu" or (isinstance(images, Tensor) and device.type == "cpu"):
        for batch in order:
            indices = batch[own].to(device, non_blocking=free)
            yield batch, indices, images[indices]
        return

    def read(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = images[batch[own]]
        return batch, batch[own], rows.pin_memory() if free else rows

    with ThreadPoolExecutor(1, "connr-reads-ahead") as reader:
        ahead: Future[tuple[Tensor, Tensor, Tensor]] | None = None
        for following in chain((reader.submit(read, batch) for batch in order), [None]):
            if ahead is not None:
                batch, indices, rows = ahead.result()
                yield batch, indices.to(device, non_blocking=free), rows.to(device, non_blocking=free)
            ahead = following
