"""What lies near what: the contextual neighbours (Eqs. 3-7) of some images among all of them, and how pure all of them are."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr import metrics
from connr.neighbours import contextual
from connr.neighbours.blockwise import nearest_blockwise
from connr.randomness import stream
from connr.recipe import Contextual, Pretrained, Recipe
from connr.report.map import MOST_POINTS
from connr.report.reading import Rows

WAYS = ("contextual", "cosine")
COUNT = 10  # neighbours shown of an image
MOST_CLUSTERS = 6  # that have images shown; of more, so many at random
WHOLE_TO = 60_000  # images; of more, so many at random: the time of the search grows with their square
TYPICAL = 0.1  # of a cluster, its most central ones and those nearest to a boundary, of which one each is drawn


class NeighbourExamples(NamedTuple):
    """An image of a cluster, where it lies there, and its neighbours, the nearest first."""

    cluster: int
    where: str
    image: int
    neighbours: list[int]


class NeighbourExample(NamedTuple):
    """Some images with their neighbours; among how many those were looked for.

    purity: for each of `WAYS` the mean share of neighbours with the label of their image, where there are labels.
    together: the mean share of contextual neighbours in the cluster of their image.
    """

    images: list[NeighbourExamples]
    among: int
    purity: dict[str, float]
    together: float


def pool(n: int, r: Recipe) -> Int[Tensor, " m"]:
    """The images among which neighbours are looked for, in order: all, or many at random, those of the map among them.

    With a pretrained backbone, which takes long for each image, they are those of the map.
    """
    most = MOST_POINTS if isinstance(r.backbone, Pretrained) else WHOLE_TO
    return torch.randperm(n, generator=stream(r.seed, "map"))[:most].sort().values


def nearby(features: Float[Tensor, "m d"], among: Int[Tensor, " m"], rows: Rows, r: Recipe) -> NeighbourExample | None:
    """None where an image is alone.

    Args:
        features: L2-normalised.
        among: which of the n images of `rows` they are of.
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
    """For each of `WAYS` every image and its `count` neighbours: by the numbers of the recipe where it has them; by cosine."""
    section = r.group.neighbourhood if isinstance(r.group.neighbourhood, Contextual) else Contextual(name="contextual")
    n, k = len(features), count + 1
    k1, k2 = min(section.k1, n), min(section.k2, n)
    near = nearest_blockwise(features, max(k, k1, k2))  # once for both
    ways = contextual(features, k, k1, k2, section.alpha, section.layers, sparse=True, search=lambda *_: near)
    return {"contextual": ways.cpu(), "cosine": near.indices[:, :k].cpu()}


def purities(labels: Int[Tensor, " n"], found: dict[str, Int[Tensor, "n k"]]) -> dict[str, float]:
    """The purity of each way; none where no labelled image has a labelled neighbour."""
    try:
        return {way: metrics.purity(labels, indices) for way, indices in found.items()}
    except ValueError:
        return {}
