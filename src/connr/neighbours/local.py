"""Eq. 2: N(i) = the k nearest of the batch by cosine similarity, the anchor itself included."""

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.neighbours.blockwise import BLOCK, nearest_blockwise
from connr.neighbours.nearest import check_sizes, largest, similarities
from connr.neighbours.neighbourhood import Neighbourhood, NeighbourhoodConfig
from connr.recipe.section import Count
from connr.registry import NEIGHBOURHOODS


@NEIGHBOURHOODS.register("local")
class LocalConfig(NeighbourhoodConfig):
    """The k nearest by cosine, Eq. 2."""

    name: Literal["local"] = "local"
    k: Count = 10

    def build(self) -> Neighbourhood:
        return partial(local, k=self.k)


def local(features: Float[Tensor, "b d"], k: int = 10) -> Int[Tensor, "b k"]:
    """The local neighbourhood of each image (Eq. 2), the baseline that `contextual` improves on.

    Args:
        features: (b d), L2-normalised rows.
        k: neighbours per image, 1 <= k <= b, the image itself being the first.

    Returns:
        (b k) int64, most similar first, ties by index.

    Raises:
        ValueError: k is not between 1 and b.
    """
    check_sizes(len(features), k=k)
    if len(features) > BLOCK:  # in less time and memory; a batch is not
        return nearest_blockwise(features, k).indices
    return largest(similarities(features.detach()).fill_diagonal_(torch.inf), k)
