"""Random views of rows of features: cached views, interpolation with a neighbour, noise and dropout."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.views.base import Views
from connr.views.device_copy import to_device


class DrawnRows(NamedTuple):
    """The parameters of one view of b rows; None for disabled operations."""

    views: Int[Tensor, " b"] | None
    neighbours: Int[Tensor, " b"] | None
    amounts: Float[Tensor, " b"] | None
    noise: Float[Tensor, "b d"] | None
    kept: Bool[Tensor, "b d"] | None

    def rows(self, share: slice) -> "DrawnRows":
        """The parameters of some of the rows."""
        return DrawnRows(*(None if part is None else part[share] for part in self))


class FeatureViews(Views):
    """A random view of each row of features; two calls make the two views.

    A row of the data is (1 + V + k, d): the row itself, V cached views of its image, and its k nearest rows.

    Args:
        mean: per column; views are standardised as (row - mean) / std.
        std: per column, > 0.
        views: V; a view starts from a random cached view, or from the row itself for 0.
        neighbours: k.
        mix: range of the weight of a random neighbour in the interpolation, in [0, 1].
        noise: std of the added Gaussian noise.
        dropout: share of columns set to their mean, in [0, 1); the others are divided by 1 - dropout.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        views: int = 0,
        neighbours: int = 0,
        mix: tuple[float, float] = (0.0, 0.0),
        noise: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.views, self.neighbours, self.mix = views, neighbours, mix
        self.noise, self.dropout = noise, dropout

    def normalise(self, rows: Float[Tensor, "b *m d"]) -> Float[Tensor, "b d"]:
        """Rows without augmentation, standardised."""
        return self._standardise(rows if rows.ndim == 2 else rows[:, 0])

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> DrawnRows:
        """The parameters of one view of `count` rows (... d), drawn on the CPU: the same on every device and rank."""
        views = neighbours = amounts = noise = kept = None
        if self.views:
            views = torch.randint(self.views, (count,), generator=generator)
        if self.neighbours and self.mix[1] > 0:
            neighbours = torch.randint(self.neighbours, (count,), generator=generator)
            amounts = torch.empty(count).uniform_(*self.mix, generator=generator)
        if self.noise:
            noise = torch.randn(count, shape[-1], generator=generator)
        if self.dropout:
            kept = torch.rand(count, shape[-1], generator=generator) >= self.dropout
        return DrawnRows(views, neighbours, amounts, noise, kept)

    def apply(
        self,
        rows: Float[Tensor, "b *m d"],
        drawn: DrawnRows,
        over: Tensor | None = None,  # noqa: ARG002 - not worth reusing for small views
    ) -> Float[Tensor, "b d"]:
        """Computes the view of each row from its parameters."""
        whole, device = rows if rows.ndim == 3 else rows.unsqueeze(1), rows.device
        each = torch.arange(len(rows), device=device)
        view = whole[:, 0] if drawn.views is None else whole[each, 1 + to_device(device, drawn.views)]
        view = self._standardise(view)
        if drawn.neighbours is not None and drawn.amounts is not None:
            other = self._standardise(whole[each, 1 + self.views + to_device(device, drawn.neighbours)])
            view = torch.lerp(view, other, to_device(device, drawn.amounts).unsqueeze(1))
        if drawn.noise is not None:
            view = view + self.noise * to_device(device, drawn.noise)
        if drawn.kept is not None:
            view = view * to_device(device, drawn.kept) / (1 - self.dropout)
        return view

    def _standardise(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return (rows.float() - to_device(rows.device, self.mean)) / to_device(rows.device, self.std)
