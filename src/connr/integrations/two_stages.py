"""Both stages as one criterion: BYOL's loss before epoch t0, from then on the group loss off the boundary (Eqs. 9-15).

What a loop has to do for it is two lines: hand over features before every epoch, and call it with the images' indices.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.clustering.anchors import off_boundary
from connr.clustering.kmeans import Clusters, kmeans
from connr.errors import InputError
from connr.losses import group_mean, negative_cosine, normalize_rows
from connr.neighbours import contextual, itself
from connr.randomness import stream
from connr.schedules import linear_fraction


class TwoStageLoss(nn.Module):
    """BYOL's loss, then ConNR's. On the scale of BYOL, -2 cos; `scale` multiplies it.

    Args:
        n_clusters: K >= 2, of the k-means that finds the boundaries.
        start: t0, the first epoch of stage 2, from 0.
        end: T, the number of epochs; the fraction kept rises until there (Eq. 12).
        k, k1, k2, alpha, layers: of `connr.neighbours.contextual`.
        fraction, final: of the anchors that are kept at t0, and at T.
        restarts: of k-means.
        seed: of k-means; torch's own generators are not touched.
        scale: 0.5 for loops whose loss is -cos.

    Attributes:
        clusters: what k-means found before this epoch; None in stage 1.
        kept: the share of anchors kept in the last batch.

    Raises:
        InputError: fewer than 2 clusters, or a stage 2 that starts after the end.
    """

    def __init__(
        self,
        n_clusters: int,
        start: int,
        end: int,
        *,
        k: int = 10,
        k1: int = 10,
        k2: int = 2,
        alpha: float = 2.0,
        layers: int = 2,
        fraction: float = 0.8,
        final: float = 1.0,
        restarts: int = 10,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if n_clusters < 2:
            raise InputError(f"n_clusters={n_clusters} should be at least 2: one cluster has no boundary.")
        if not 0 <= start <= end:
            raise InputError(f"start={start} should be between 0 and end={end}.")
        self.n_clusters, self.start, self.end = n_clusters, start, end
        self.contextual = partial(contextual, k=k, k1=k1, k2=k2, alpha=alpha, layers=layers)
        self.fraction, self.final, self.restarts, self.seed, self.scale = fraction, final, restarts, seed, scale
        self.epoch = 0
        self.clusters: Clusters | None = None
        self.kept = 1.0

    def begin(self, epoch: int, features: Callable[[], Float[Tensor, "n d"]]) -> None:
        """To be called before every epoch. In stage 2 it clusters the features, so they are only asked for there.

        Args:
            epoch: from 0.
            features: gives the target network's projections (n d) of all n images, un-augmented, in the order of their
                indices; `extract` makes them.
        """
        self.epoch, self.clusters = epoch, None
        if epoch < self.start:
            return
        rows = normalize_rows(features().detach())
        if len(rows) < self.n_clusters:
            raise InputError(f"n_clusters={self.n_clusters} is more than the {len(rows)} images.")
        generator = stream(self.seed, "kmeans", epoch)
        self.clusters = kmeans(rows, self.n_clusters, restarts=self.restarts, generator=generator)

    def forward(
        self, queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], indices: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """The loss of one direction; call it again with the views swapped and average.

        Args:
            queries: (b d), predictions of one view, with gradient.
            keys: (b d), target projections of the other view; taken without gradient.
            indices: (b), which images these are, 0 <= index < n.

        Raises:
            InputError: an epoch of stage 2 was not begun, or a batch is smaller than k, k1 or k2.
        """
        keys = normalize_rows(keys.detach())
        with torch.no_grad():
            neighbours, kept = self._neighbours_and_anchors(keys, indices.to(keys.device))
        self.kept = float(kept.float().mean())
        return self.scale * group_mean(negative_cosine(queries, keys[neighbours]), kept)

    def _neighbours_and_anchors(self, keys: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        if self.clusters is None:
            return itself(keys), torch.ones(len(keys), dtype=torch.bool, device=keys.device)
        centroids, assignments, _ = self.clusters
        fraction = linear_fraction(self.epoch, self.start, self.end, self.fraction, self.final)
        kept = off_boundary(
            keys, indices, centroids=centroids.to(keys), assignments=assignments.to(keys.device), fraction=fraction
        )
        return self.contextual(keys), kept
