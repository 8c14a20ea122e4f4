"""The settings of a run that the training loop needs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from connr.methods.method import Optimizer, View
from connr.views import Views


@dataclass(frozen=True)
class Plan:
    """The settings of a recipe, with its parts built, except for the method.

    Attributes:
        epochs: of all phases together.
        batch_size: global batch size of phases that do not set one.
        optimizer: of phases that do not set one; its `lr` is for a batch of `reference_batch` images.
        reference_batch: the learning rate is scaled by batch_size / reference_batch; None for no scaling.
        warmup_epochs: of linear warm-up before the cosine.
        cosine_reaches_zero: at the last step; see `connr.schedules.warmup_cosine`.
        views: maps a `View` to the object that computes it.
        depths: for a fine-tuned backbone, see `connr.engine.optimizers.optimizer_for`.
        n_clusters: K of k-means.
        restarts: of k-means.
        max_iterations: of k-means.
        reseed_empty: whether k-means reseeds empty clusters.
        evaluate_every: epochs between two clusterings of all images for the log; 0 clusters only where it is needed.
        seed: of all randomness.
        clustered: the assigner is fitted on the first `clustered` images; None for all.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    reference_batch: int | None
    warmup_epochs: float
    cosine_reaches_zero: bool
    views: Callable[[View], Views]
    depths: Callable[[nn.Module], list[tuple[float, list[nn.Parameter]]]] | None
    n_clusters: int
    restarts: int
    max_iterations: int
    reseed_empty: bool
    evaluate_every: int
    seed: int
    clustered: int | None = None

    def normalise(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (b ...) of the data as the network takes them, without augmentation."""
        return self.views(View("plain")).normalise(rows)
