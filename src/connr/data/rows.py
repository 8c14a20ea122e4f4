"""Where images lie: in memory, as one tensor, or in a file. Whoever reads them cannot tell."""

import math
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from connr.errors import InputError


@runtime_checkable
class Rows(Protocol):
    """n rows of one shape and type. A tensor is such, `FileRows` is another.

    Attributes:
        shape: (n, ...).
        dtype: of the tensors that come out.
        device: where those come out.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Tensor:
        """One row by an int, some by a slice or by an int64 tensor on the rows' device."""
        ...


class FileRows:
    """Rows in a file, each read when it is asked for: a set of any size takes the memory of a batch.

    Read by position and not mapped: of a mapped file, all that was ever touched counts as the process's memory. Goes to
    another process as its path.

    Args:
        path: rows one after the other, as a tensor of `dtype` lies in memory.
        shape: (n, ...).

    Raises:
        InputError: while reading, the file is gone or shorter than it was.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path, shape: torch.Size, dtype: torch.dtype = torch.uint8) -> None:
        self.path, self.shape, self.dtype = path, torch.Size(shape), dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        if isinstance(rows, int):
            return self[rows : rows + 1][0] if rows >= 0 else self[torch.tensor([rows + len(self)])][0]
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            if step == 1:
                return self._runs([(first, max(0, last - first))])
            rows = torch.arange(first, last, step)
        if rows.dtype == torch.bool:
            rows = rows.nonzero().squeeze(1)
        return self._runs([(row, 1) for row in rows.tolist()])

    def _runs(self, runs: list[tuple[int, int]]) -> Tensor:
        """The rows of each run (first, count), one run after the other."""
        found = torch.empty((sum(count for _, count in runs), *self.shape[1:]), dtype=self.dtype)
        a_row, place = math.prod(self.shape[1:]) * self.dtype.itemsize, 0
        content = memoryview(found.view(-1).view(torch.uint8).numpy().data)
        with self._opened() as file:
            for first, count in runs:
                file.seek(first * a_row)
                end = place + count * a_row
                while place < end:  # a read may end early
                    read = file.readinto(content[place:end])
                    if not read:
                        raise self._lost("has been cut short")
                    place += read
        return found

    def _opened(self) -> FileIO:
        try:
            return FileIO(self.path)
        except FileNotFoundError as fault:
            raise self._lost("is gone") from fault

    def _lost(self, how: str) -> InputError:
        return InputError(f"{self.path}, which this run reads its images from, {how}; add --resume, and it is made again.")


def parts(rows: Rows, at_a_time: int, share: slice = slice(None)) -> Iterator[Tensor]:
    """The rows of a share in order, so many at a time."""
    first, last, _ = share.indices(len(rows))
    return (rows[at : min(at + at_a_time, last)] for at in range(first, last, at_a_time))


def size_in_bytes(rows: Rows) -> int:
    return math.prod(rows.shape) * rows.dtype.itemsize


def resident(rows: Rows, device: torch.device, budget: int) -> Rows:
    """The rows in the memory of the device, where they take at most `budget` bytes of it; else as they are."""
    if rows.device == device or size_in_bytes(rows) > budget:
        return rows
    return rows[:].to(device)
