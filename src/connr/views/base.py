"""What training asks of views: how a row of the data, an image as it is stored say, becomes what the network takes."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class Views(ABC):
    """Random views of rows (b ...), each row with parameters of its own."""

    @abstractmethod
    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """The parameters of one view of `count` rows of `shape`, a row for each; `.rows(slice)` gives those of some.

        Drawn on the CPU, for the whole batch, so that every device and rank has the same.
        """

    @abstractmethod
    def apply(self, rows: Tensor, drawn: Any, over: Tensor | None = None) -> Tensor:
        """The view of each row that its row of `drawn` describes, on the device of the rows, which nobody waits for.

        Args:
            over: an earlier view that is done with: its memory may be taken for this one, if it is as large.
        """

    @abstractmethod
    def normalise(self, rows: Tensor) -> Tensor:
        """The plain rows as the network sees them, for features."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each row, all draws from `generator`, a CPU one."""
        return self.apply(rows, self.draw(len(rows), tuple(rows.shape[1:]), generator))
