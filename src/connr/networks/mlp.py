"""The encoder of rows of features: an MLP, or the identity."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from connr.recipe.plugins import BackboneConfig
from connr.recipe.section import Width
from connr.registry import BACKBONES


@BACKBONES.register("mlp")
class MLPConfig(BackboneConfig):
    """For rows of features: a layer for each of `widths`, with BatchNorm and ReLU; empty for the identity."""

    takes_features: ClassVar[bool] = True

    name: Literal["mlp"] = "mlp"
    widths: Annotated[tuple[Width, ...], Field(max_length=100)] = ()

    def build(self, channels: int) -> nn.Module:
        return mlp_encoder(channels, self.widths)


def mlp_encoder(width: int, widths: Sequence[int]) -> nn.Sequential:
    """Rows (b width) -> features (b widths[-1]): Linear, BatchNorm, ReLU for each of `widths`, if any."""
    layers: list[nn.Module] = []
    for before, after in zip([width, *widths], widths, strict=False):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
