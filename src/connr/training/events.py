"""What a run tells while it goes on."""

from typing import NamedTuple

from connr.kmeans import Clusters


class Epoch(NamedTuple):
    """One finished epoch.

    epoch: how many are finished, 1-based. stage: `instance` or `group`. loss: mean over its steps.
    kept: mean share of anchors kept. lr, target_momentum: at its last step. seconds: of training and k-means.
    clusters, feature_std: from k-means after the epoch, None where none was due; feature_std is the mean over dimensions
    of the standard deviation of the features times sqrt(d): about 1 when they spread over the sphere, 0 when collapsed.
    """

    epoch: int
    stage: str
    loss: float
    kept: float
    lr: float
    target_momentum: float
    seconds: float
    clusters: Clusters | None
    feature_std: float | None


class Listener:
    """Told what happens; does nothing by itself."""

    def started(self, epochs: int, steps_per_epoch: int, first_epoch: int, first_group_epoch: int) -> None:
        """Before the first step."""

    def estimated(self, seconds: float) -> None:
        """Once, after the first steps: how long the steps that are left will take at their pace, k-means not counted."""

    def stepped(self) -> None:
        """After every step. Called without waiting for the device."""

    def finished_epoch(self, record: dict[str, object]) -> None:
        """After every epoch, with the line that goes into events.jsonl."""
