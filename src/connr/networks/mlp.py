"""The encoder of rows of numbers: a few layers, or none, so that the heads stand on the rows themselves."""

from collections.abc import Sequence

from torch import nn


def mlp_encoder(width: int, widths: Sequence[int]) -> nn.Sequential:
    """Rows (b width) -> features (b widths[-1]): Linear, BatchNorm, ReLU for each of `widths`, if any."""
    layers: list[nn.Module] = []
    for before, after in zip([width, *widths], widths, strict=False):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
