"""The processes of one run: which rows are whose, and what they tell each other. Rows are always in rank order."""

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """One process: nothing to exchange."""

    rank: int = 0
    count: int = 1

    def share(self, n: int) -> slice:
        """The rows of n that are this rank's: contiguous, in rank order, the first ranks' longer by at most one."""
        each, longer = divmod(n, self.count)
        start = self.rank * each + min(self.rank, longer)
        return slice(start, start + each + (self.rank < longer))

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, in rank order, on every rank; their numbers may differ between ranks. No gradient."""
        return rows

    def sum(self, tensor: Tensor) -> Tensor:
        """Summed over the ranks, elementwise: in place, and returned, the same bits on every rank. No gradient."""
        return tensor


class ProcessGroup(Ranks):
    """The default group of torch.distributed, gloo or nccl; the tensors are on the device that it speaks of."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def gather(self, rows: Tensor) -> Tensor:
        lengths = [rows.new_empty(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(lengths, rows.new_tensor([len(rows)], dtype=torch.int64))
        sizes = torch.cat(lengths).tolist()
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def sum(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor


ALONE = Ranks()
