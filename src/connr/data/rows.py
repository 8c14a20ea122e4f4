"""`Rows`: images in memory as a tensor, or in a file, behind one interface."""

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
    """n rows of one shape and type, such as a tensor or `FileRows`.

    Attributes:
        shape: (n, ...).
        dtype: of the rows.
        device: of the rows that indexing returns.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Tensor:
        """One row for an int; several for a slice or an int64 tensor on `device`."""
        ...


class FileRows:
    """Rows in a file, read on access: a set of any size needs only the memory of a batch.

    The file is read by position, not memory-mapped, as all touched pages of a mapped file count as memory of the process.
    Pickles as its path.

    Args:
        path: of the file, which holds the bytes of a contiguous tensor.
        shape: (n, ...).
        dtype: of the tensor.

    Raises:
        InputError: on access, if the file was removed or truncated.
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
                while place < end:  # a read may be short
                    read = file.readinto(content[place:end])
                    if not read:
                        raise self._missing("has been truncated")
                    place += read
        return found

    def _opened(self) -> FileIO:
        try:
            return FileIO(self.path)
        except FileNotFoundError as fault:
            raise self._missing("has been removed") from fault

    def _missing(self, how: str) -> InputError:
        return InputError(
            f"{self.path}, from which this run reads its images, {how}; run again with --resume to create it again."
        )


def parts(rows: Rows, at_a_time: int, share: slice = slice(None)) -> Iterator[Tensor]:
    """The rows of a share in order, in batches of `at_a_time`."""
    first, last, _ = share.indices(len(rows))
    return (rows[at : min(at + at_a_time, last)] for at in range(first, last, at_a_time))


def size_in_bytes(rows: Rows) -> int:
    """The memory of all rows."""
    return math.prod(rows.shape) * rows.dtype.itemsize


def resident(rows: Rows, device: torch.device, budget: int) -> Rows:
    """The rows on the device if they take at most `budget` bytes; otherwise unchanged."""
    if rows.device == device or size_in_bytes(rows) > budget:
        return rows
    return rows[:].to(device)
