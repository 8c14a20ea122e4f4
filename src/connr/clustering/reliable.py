"""DCBoost's anchors (Li et al. 2025): images all of whose k nearest are in their own cluster.

    n_k = images of which this holds for k;  k maximises k * n_k / n over 1...most

The larger k, the fewer images are kept and the safer they are; the maximum trades one for the other.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.clustering.anchors import AnchorFilter, AnchorsConfig
from connr.clustering.kmeans import Clusters
from connr.neighbours import local
from connr.recipe.section import Count
from connr.registry import ANCHOR_FILTERS


class Reliable(NamedTuple):
    """kept: the images whose k nearest share their cluster. k: scalar int64, on the device."""

    kept: Bool[Tensor, " n"]
    k: Int[Tensor, ""]


def reliable(features: Float[Tensor, "n d"], clusters: Int[Tensor, " n"], most: int = 50) -> Reliable:
    """The images whose surroundings are all of one cluster.

    Args:
        features: (n d), L2-normalised.
        clusters: (n), the cluster of each.
        most: >= 1, the largest k that is tried; at most n - 1 are.

    Returns:
        The images, and the k that they were chosen with, the least one of equally good ones. A single image is kept.
    """
    most = min(most, len(features) - 1)
    if most < 1:
        return Reliable(torch.ones_like(clusters, dtype=torch.bool), torch.ones_like(clusters[0]))
    near = local(features, most + 1)[:, 1:]
    agree = (clusters[near] == clusters.unsqueeze(1)).cumprod(dim=1)  # (n most): all of the first k
    k = (agree.sum(dim=0) * torch.arange(1, most + 1, device=agree.device)).argmax() + 1
    return Reliable(agree.gather(1, (k - 1).expand(len(agree), 1)).squeeze(1).bool(), k)


@ANCHOR_FILTERS.register("reliable")
class ReliableAnchors(AnchorsConfig):
    """Images of a batch whose k nearest in the batch share their cluster; `most`: the largest k that is tried."""

    name: Literal["reliable"] = "reliable"
    most: Count = 50

    @property
    def needs_clusters(self) -> bool:
        return True

    def build(self, clusters: Clusters | None, epoch: int, start: int, epochs: int) -> AnchorFilter:
        if clusters is None:
            raise ValueError(
                "the filter of reliable anchors needs clusters; have the phase ask for them: Needs(clusters=True)."
            )
        assignments = clusters.assignments
        return lambda keys, indices: reliable(keys, assignments[indices], self.most).kept
