"""Anchor filters: which images of a batch are anchors of the group loss."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from connr.clustering.boundary import boundary_ratio, keep
from connr.clustering.kmeans import Clusters
from connr.recipe.section import Fraction, Section, Share
from connr.registry import ANCHOR_FILTERS
from connr.schedules import linear_fraction

AnchorFilter = Callable[[Tensor, Tensor], Tensor]  # keys (b d), image indices (b) -> kept (b)


class AnchorsConfig(Section):
    """The config of an anchor filter."""

    name: str

    @property
    def needs_clusters(self) -> bool:
        """Whether it is built from the clusters of the epoch before."""
        return False

    @abstractmethod
    def build(self, clusters: Clusters | None, epoch: int, start: int, epochs: int) -> AnchorFilter:
        """The filter of an epoch.

        Args:
            clusters: of all images, where `needs_clusters`.
            epoch: of the run, from 0.
            start: t0, the first epoch of the group phase.
            epochs: T, of the whole run.
        """


@ANCHOR_FILTERS.register("all")
class AllAnchors(AnchorsConfig):
    """All images are anchors."""

    name: Literal["all"] = "all"

    def build(self, clusters: Clusters | None, epoch: int, start: int, epochs: int) -> AnchorFilter:
        return all_anchors


@ANCHOR_FILTERS.register("boundary")
class Boundary(AnchorsConfig):
    """Eqs. 9-13: `fraction` of the anchors kept at t0, rising to `final` at the share `until` of all epochs (Eq. 12).

    `inclusive_threshold: false` drops the image at the threshold as well.
    """

    name: Literal["boundary"] = "boundary"
    fraction: Fraction = 0.8
    final: Fraction = 1.0
    until: Share = 1.0
    inclusive_threshold: bool = True

    @property
    def needs_clusters(self) -> bool:
        return True

    def build(self, clusters: Clusters | None, epoch: int, start: int, epochs: int) -> AnchorFilter:
        if clusters is None:
            raise ValueError("the boundary filter needs clusters; have the phase ask for them: Needs(clusters=True).")
        if len(clusters.centroids) == 1:  # and no boundary
            return all_anchors
        fraction = linear_fraction(epoch, start, self.until * epochs, self.fraction, self.final)
        return partial(
            off_boundary,
            centroids=clusters.centroids,
            assignments=clusters.assignments,
            fraction=fraction,
            inclusive_threshold=self.inclusive_threshold,
        )


def all_anchors(keys: Float[Tensor, "b d"], indices: Int[Tensor, " b"]) -> Bool[Tensor, " b"]:
    """The anchor filter that keeps all."""
    return torch.ones(len(keys), dtype=torch.bool, device=keys.device)


def off_boundary(
    keys: Float[Tensor, "b d"],
    indices: Int[Tensor, " b"],
    *,
    centroids: Float[Tensor, "K d"],
    assignments: Int[Tensor, " n"],
    fraction: float,
    inclusive_threshold: bool = True,
) -> Bool[Tensor, " b"]:
    """The anchor filter of the group phase (Eqs. 9-13), on the clusters that k-means found after the epoch before.

    Args:
        keys: (b d), L2-normalised.
        indices: (b), of the images in the data set.
        centroids: (K d), K >= 2.
        assignments: (n), of all images.
        fraction: fr(t), in (0, 1].
        inclusive_threshold: whether the image at the threshold is kept.
    """
    return keep(boundary_ratio(keys, centroids, assignments[indices]), fraction, inclusive_threshold)
