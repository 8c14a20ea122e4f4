"""What the ranks of a run tell each other. A rank holds a share of every batch and of every pass over the images."""

import torch
import torch.distributed as dist
from torch import Tensor


class Communicator:
    """One process alone: there is nothing to exchange.

    Attributes:
        rank: which one this is, 0 <= rank < count.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def share(self, n: int, rank: int | None = None) -> slice:
        """The rows of n that are this rank's, or another's: contiguous, in rank order, to each as many, give or take one."""
        rank = self.rank if rank is None else rank
        return slice(rank * n // self.count, (rank + 1) * n // self.count)

    def gather(self, rows: Tensor, total: int | None = None) -> Tensor:
        """The rows of all ranks, in the order of ranks; their numbers may differ. Without gradient.

        `total`: said when each rank holds its `share` of so many rows, nobody needs to be asked, which waits for the device.
        """
        return rows

    def sum(self, tensor: Tensor) -> Tensor:
        """The elementwise sum over ranks, the same bits on each; it may be taken in place. Without gradient."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank. Does not wait for the device."""
        return flag

    def wait(self) -> None:
        """Until every rank is here."""


class ProcessGroup(Communicator):
    """The default group of `torch.distributed`, over gloo or nccl."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        # Flags travel between hosts: through nccl each would have to wait for the device.
        self.hosts = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")

    def gather(self, rows: Tensor, total: int | None = None) -> Tensor:
        numbers = self._numbers(rows, total)
        padded = rows.new_zeros(max(numbers), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in numbers]
        dist.all_gather(parts, padded)
        return torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)])

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
        dist.all_reduce(flags, group=self.hosts)  # type: ignore[arg-type]
        return bool(flags)

    def wait(self) -> None:
        dist.barrier()


SINGLE_PROCESS = Communicator()
