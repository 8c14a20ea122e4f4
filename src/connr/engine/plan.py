"""The numbers of a run, as the loop takes them: what a recipe says, with the parts already made."""

from collections.abc import Callable
from dataclasses import dataclass

from connr import algorithm
from connr.clustering.kmeans import Clusters
from connr.views import Views


@dataclass(frozen=True)
class Stage:
    """What a stage plugs in. `sockets(epoch, clusters)` gives the neighbourhood and anchor filter of an epoch.

    `memory`: how many keys of the batches before are searched for neighbours as well. `loss_scale` multiplies the loss.
    """

    name: str
    sockets: Callable[[int, Clusters | None], algorithm.Sockets]
    needs_clusters: bool
    views: Views
    lr_factors: dict[str, float]
    memory: int = 0
    loss_scale: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The numbers of a whole run; t0 is the first epoch of stage 2, momenta those of the target at start and end.

    `clustered`: k-means is for the first so many rows; the others go to the nearest centroid. None for all.
    """

    epochs: int
    t0: int
    stages: tuple[Stage, Stage]
    batch_size: int
    base_lr: float
    warmup_epochs: float
    cosine_reaches_zero: bool
    momenta: tuple[float, float]
    n_clusters: int
    restarts: int
    max_iterations: int
    reseed_empty: bool
    evaluate_every: int
    seed: int
    clustered: int | None = None

    def steps_per_epoch(self, n: int) -> int:
        return n // self.batch_size

    def clusters_due(self, finished: int) -> bool:
        """Whether k-means runs after so many epochs: every epoch from t0 on, at the end, and when the log asks for it."""
        logged = self.evaluate_every and finished % self.evaluate_every == 0
        return bool(finished >= self.t0 or finished == self.epochs or logged)
