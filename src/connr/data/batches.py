"""Batches of an epoch: a random order that depends only on the seed and the epoch, and a loader of the rows."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import torch
from jaxtyping import Int
from torch import Tensor

from connr.data.rows import Rows
from connr.randomness import stream


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Int[Tensor, " b"]]:
    """Batches of indices of one epoch, in random order. The incomplete last batch is dropped.

    Args:
        n: number of images.
        batch_size: 1 <= batch_size <= n.
        seed: of the run.
        epoch: from 0.
    """
    order = torch.randperm(n, generator=stream(seed, "order", epoch))
    yield from order[: n // batch_size * batch_size].split(batch_size)


def fetched(
    images: Rows, order: Iterable[Int[Tensor, " b"]], local: slice, device: torch.device
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, " m"], Tensor]]:
    """The rows of each batch on the device. Rows in a file are prefetched by a thread.

    Args:
        images: (n ...), on `device`, on the CPU or in a file.
        order: batches of indices.
        local: the part of each batch to load.
        device: of the results.

    Yields:
        The indices (b) of the whole batch on the CPU; on the device, the indices (m) and the rows (m ...) of its local part.
    """
    free = device.type == "cuda"  # copies to the device are asynchronous
    if images.device.type != "cpu" or (isinstance(images, Tensor) and device.type == "cpu"):
        for batch in order:
            indices = batch[local].to(device, non_blocking=free)
            yield batch, indices, images[indices]
        return

    def read(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = images[batch[local]]
        return batch, batch[local], rows.pin_memory() if free else rows

    with ThreadPoolExecutor(1, "connr-reads-ahead") as reader:
        ahead: Future[tuple[Tensor, Tensor, Tensor]] | None = None
        for following in chain((reader.submit(read, batch) for batch in order), [None]):
            if ahead is not None:
                batch, indices, rows = ahead.result()
                yield batch, indices.to(device, non_blocking=free), rows.to(device, non_blocking=free)
            ahead = following
