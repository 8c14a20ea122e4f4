"""Communication between the processes of a run. Each has a share of every batch and of every pass over the images."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Communicator:
    """The communicator of a single process, which exchanges nothing; the base class of `ProcessGroup`.

    Attributes:
        rank: index of this process, 0 <= rank < count.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, n: int, rank: int | None = None) -> slice:
        """The slice of n rows that belongs to a rank: contiguous, in rank order, sizes differ by at most 1.

        Args:
            n: number of rows.
            rank: 0 <= rank < count; None for this process.
        """
        rank = self.rank if rank is None else rank
        return slice(rank * n // self.count, (rank + 1) * n // self.count)

    def gather(self, rows: Tensor, total: int | None = None) -> Tensor:
        """Concatenates the rows of all ranks in rank order. Without gradient.

        Args:
            rows: (b ...), the rows of this rank; b may differ between ranks.
            total: number of rows of all ranks, if each rank has its `share` of them. Without it the ranks exchange their
                counts first, which synchronises with the device.
        """
        return rows

    def gather_with_gradient(self, rows: Tensor, total: int) -> Tensor:
        """Concatenates the rows of all ranks in rank order, with gradient, for a loss over the global batch.

        The gradient of a rank's rows is the sum over the losses of all ranks. If every rank computes the same loss of all
        rows, the sum is `count` times its gradient, and DDP's mean over ranks restores the gradient itself.

        Args:
            rows: (b ...), this rank's `share` of the rows.
            total: rows of all ranks.
        """
        return rows

    def sum(self, tensor: Tensor) -> Tensor:
        """The elementwise sum over ranks, bitwise equal on each. May overwrite `tensor`. Without gradient."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank. Does not synchronise with the device."""
        return flag

    def wait(self) -> None:
        """A barrier: returns once every rank has called it."""


class ProcessGroup(Communicator):
    """The default process group of `torch.distributed`, with the backend gloo or nccl."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        # Flags are exchanged on the CPU through gloo: nccl would synchronise with the device.
        self.cpu_group = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")

    def gather(self, rows: Tensor, total: int | None = None) -> Tensor:
        numbers = self._numbers(rows, total)
        padded = rows.new_zeros(max(numbers), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in numbers]
        dist.all_gather(parts, padded)
        return torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)])

    def gather_with_gradient(self, rows: Tensor, total: int) -> Tensor:
        gathered: Tensor = _Gather.apply(rows, self, total)
        return gathered

    def _numbers(self, rows: Tensor, total: int | None) -> list[int]:
        if total is not None:
            shares = [self.share(total, rank) for rank in range(self.count)]
            return [share.stop - share.start for share in shares]
        numbers = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.count)]
        dist.all_gather(numbers, torch.tensor([len(rows)], device=rows.device))
        return [int(number) for number in numbers]

    def sum(self, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, group=self.cpu_group)  # type: ignore[arg-type]
        return bool(flags)

    def wait(self) -> None:
        dist.barrier()


class _Gather(torch.autograd.Function):
    """Gathers the rows of all ranks; the backward pass sums the gradients of a rank's rows over all ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, communicator: ProcessGroup, total: int) -> Tensor:
        ctx.communicator, ctx.local_rows = communicator, communicator.share(total)
        return communicator.gather(rows, total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.communicator.sum(gradients[0].clone())[ctx.local_rows], None, None


SINGLE_PROCESS = Communicator()
