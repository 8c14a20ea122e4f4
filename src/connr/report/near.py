"""Contextual neighbours (Eqs. 3-7) of some images, and the purity of all neighbours."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr import metrics
from connr.neighbours import contextual
from connr.neighbours.blockwise import nearest_blockwise
from connr.neighbours.contextual import ContextualConfig
from connr.networks.pretrained import Pretrained
from connr.randomness import stream
from connr.recipe import Recipe
from connr.report.map import MOST_POINTS
from connr.report.reading import AssignmentTable

WAYS = ("contextual", "cosine")
COUNT = 10  # neighbours shown per image
MOST_CLUSTERS = 6  # clusters with examples; if there are more, a random choice
WHOLE_TO = 60_000  # images to search; if there are more, a random choice, as the time is quadratic
TYPICAL = 0.1  # share of a cluster, its most central and most peripheral images, from which examples are drawn


class NeighbourExamples(NamedTuple):
    """An image of a cluster, its position in the cluster, and its neighbours, the nearest first."""

    cluster: int
    where: str
    image: int
    neighbours: list[int]


class NeighbourExample(NamedTuple):
    """Some images with their neighbours, and the number of images searched.

    purity: for each of `WAYS` the mean share of neighbours with the label of their image, where there are labels.
    together: the mean share of contextual neighbours in the cluster of their image.
    """

    images: list[NeighbourExamples]
    among: int
    purity: dict[str, float]
    together: float


def pool(n: int, r: Recipe) -> Int[Tensor, " m"]:
    """The sorted indices of the images to search: all, or a random choice that includes those of the map.

    With a pretrained backbone, which takes long for each image, they are those of the map.
    """
    most = MOST_POINTS if isinstance(r.backbone, Pretrained) else WHOLE_TO
    return torch.randperm(n, generator=stream(r.seed, "map"))[:most].sort().values


def nearby(
    features: Float[Tensor, "m d"], among: Int[Tensor, " m"], rows: AssignmentTable, r: Recipe
) -> NeighbourExample | None:
    """Examples of neighbours; None for a single image.

    Args:
        features: L2-normalised.
        among: (m), indices of these images in `rows`.
    """
    if len(among) < 2:
        return None
    found = each_way(features, r, min(COUNT, len(among) - 1))
    clusters, ratios = rows.assigned.clusters[among], rows.assigned.ratios[among]
    present = clusters.unique()
    drawn = present[torch.randperm(len(present), generator=stream(r.seed, "near"))[:MOST_CLUSTERS]].sort().values
    images = []
    for cluster in drawn.tolist():
        members, generator = (clusters == cluster).nonzero().flatten(), stream(r.seed, "near", 1 + cluster)
        distances = rows.assigned.distances[among][members]
        few = max(1, round(TYPICAL * len(members)))
        kinds = {
            "near its centre": members[distances.argsort(stable=True)[:few]],
            "near a boundary": members[ratios[members].argsort(descending=True, stable=True)[:few]],
        }
        for where, ones in kinds.items():
            at = int(ones[torch.randint(len(ones), (), generator=generator)])
            images.append(NeighbourExamples(cluster, where, int(among[at]), among[found["contextual"][at, 1:]].tolist()))
    purity = purities(rows.labels[among], found)
    return NeighbourExample(images, len(among), purity, metrics.purity(clusters, found["contextual"]))


def each_way(features: Float[Tensor, "n d"], r: Recipe, count: int) -> dict[str, Int[Tensor, "n k"]]:
    """For each of `WAYS`, every image and its `count` neighbours: contextual with the recipe's settings, and by cosine."""
    own = getattr(getattr(r.method, "group", None), "neighbourhood", None)
    section = own if isinstance(own, ContextualConfig) else ContextualConfig()
    n, k = len(features), count + 1
    k1, k2 = min(section.k1, n), min(section.k2, n)
    nearest = nearest_blockwise(features, max(k, k1, k2))  # once for both
    ways = contextual(features, k, k1, k2, section.alpha, section.layers, sparse=True, search=lambda *_: nearest)
    return {"contextual": ways.cpu(), "cosine": nearest.indices[:, :k].cpu()}


def purities(labels: Int[Tensor, " n"], found: dict[str, Int[Tensor, "n k"]]) -> dict[str, float]:
    """The neighbour purity of each way; empty if no labelled image has a labelled neighbour."""
    try:
        return {way: metrics.purity(labels, indices) for way, indices in found.items()}
    except ValueError:
        return {}
