"""`Views`, the interface between training and augmentation."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class Views(ABC):
    """Random views of rows (b ...), with separate parameters for each row."""

    @abstractmethod
    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """Draws the parameters of one view of `count` rows; `.rows(slice)` of the result selects some of them.

        Drawn on the CPU for the global batch, so that the result is the same on every device and rank.

        Args:
            count: number of rows.
            shape: of a row.
            generator: on the CPU.
        """

    @abstractmethod
    def apply(self, rows: Tensor, drawn: Any, over: Tensor | None = None) -> Tensor:
        """Computes the view of each row on the device of the rows, without synchronising with it.

        Args:
            rows: (b ...).
            drawn: parameters of the b views.
            over: an earlier view that is not needed any more: its memory may be reused if it has the right shape.
        """

    @abstractmethod
    def normalise(self, rows: Tensor) -> Tensor:
        """Rows without augmentation, standardised as the network takes them."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each row, with parameters drawn from `generator`, on the CPU."""
        return self.apply(rows, self.draw(len(rows), tuple(rows.shape[1:]), generator))
