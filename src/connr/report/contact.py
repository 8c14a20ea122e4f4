"""A contact sheet for each cluster: its most central images, random ones, and those nearest to another cluster."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from connr.randomness import stream
from connr.report.reading import AssignmentTable


class Cluster(NamedTuple):
    """A cluster: its size, the mean distance |f - c|, its most common label with its share, and images by kind.

    The commonest label is taken over its labelled images and is None where there are none; tightness where it is empty.
    """

    number: int
    size: int
    tightness: float | None
    label: str | None
    share: float | None
    pictures: dict[str, list[int]]


def clusters(rows: AssignmentTable, n_clusters: int, count: int, seed: int) -> list[Cluster]:
    """Clusters 0, 1, ..., each with up to `count` images of a kind."""
    return [_cluster(rows, number, count, seed) for number in range(n_clusters)]


def _cluster(rows: AssignmentTable, number: int, count: int, seed: int) -> Cluster:
    members = (rows.assigned.clusters == number).nonzero().flatten()
    distances, ratios = rows.assigned.distances[members], rows.assigned.ratios[members]
    shuffled = torch.randperm(len(members), generator=stream(seed, "contact", number))
    pictures = {
        "Most central": members[distances.argsort(stable=True)[:count]].tolist(),
        "At random": members[shuffled[:count]].tolist(),
        "Near a boundary": members[ratios.argsort(descending=True, stable=True)[:count]].tolist(),
    }
    label, share = _commonest(rows.labels[members], rows.class_names)
    return Cluster(number, len(members), float(distances.mean()) if len(members) else None, label, share, pictures)


def _commonest(labels: Int[Tensor, " m"], class_names: list[str]) -> tuple[str | None, float | None]:
    known = labels[labels >= 0]
    if not len(known):
        return None, None
    counts = torch.bincount(known)
    return class_names[int(counts.argmax())], float(counts.max() / len(known))
