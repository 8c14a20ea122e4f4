"""The training state: what a checkpoint holds besides the weights."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.clustering.assigners import Assigner
from connr.clustering.kmeans import Clusters


@dataclass
class State:
    """The position in training, (epoch, step), which determines all randomness, and what was computed on the way.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished steps of the next epoch.
        step_metrics: the metrics of those steps by name, for the mean over the epoch.
        seconds: duration of those steps.
        clusters: of all images after the last finished epoch, if they were computed.
        assigner: that computed the clusters.
        neighbours: (n k), of all images, as last computed in this phase.
        features: (n d), of all images, as last computed in this phase.
        optimizer: of the current phase; None before training.
        optimizer_tensors: the optimiser's state of a checkpoint, until the optimiser is created.
    """

    epoch: int = 0
    step: int = 0
    step_metrics: list[dict[str, Tensor]] = field(default_factory=list)
    seconds: float = 0.0
    clusters: Clusters | None = None
    assigner: Assigner | None = None
    neighbours: Int[Tensor, "n k"] | None = None
    features: Float[Tensor, "n d"] | None = None
    optimizer: torch.optim.Optimizer | None = None
    optimizer_tensors: dict[str, Tensor] = field(default_factory=dict)
