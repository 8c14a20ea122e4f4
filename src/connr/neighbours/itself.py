"""N(i) = {i}: with it the group loss (Eq. 8) is the instance loss (Eq. 1)."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.neighbours.neighbourhood import Neighbourhood, NeighbourhoodConfig
from connr.registry import NEIGHBOURHOODS


@NEIGHBOURHOODS.register("itself")
class ItselfConfig(NeighbourhoodConfig):
    """N(i) = {i}, Eq. 1."""

    name: Literal["itself"] = "itself"

    def build(self) -> Neighbourhood:
        return itself


def itself(features: Float[Tensor, "b d"]) -> Int[Tensor, "b 1"]:
    """Every image is its own only neighbour (Eq. 1).

    Args:
        features: (b d), any values; only b is used.

    Returns:
        (b 1) int64, row i holding i.
    """
    return torch.arange(len(features), device=features.device).unsqueeze(1)
