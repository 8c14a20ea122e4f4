"""What a run tells while it goes on."""

from collections.abc import Callable
from typing import NamedTuple

from connr.clustering.kmeans import Clusters


class Epoch(NamedTuple):
    """One finished epoch.

    epoch: how many are finished, 1-based. stage: `instance` or `group`.
    loss, kept, gradient: means over its steps of the loss, the share of anchors kept, the norm of the gradient.
    lr, target_momentum: at its last step. seconds: of training and k-means.
    clusters, feature_std: from k-means after the epoch, None where none was due; see `training.clustering.Clustered`.
    warnings: of `training.health`.
    """

    epoch: int
    stage: str
    loss: float
    kept: float
    gradient: float
    lr: float
    target_momentum: float
    seconds: float
    clusters: Clusters | None
    feature_std: float | None
    warnings: list[str]


class Callback:
    """Told what happens; does nothing by itself."""

    def on_progress(self, done: int, of: int, waiting: str) -> None:
        """Now and then while a frozen backbone goes through the images; `waiting`: what for, where it is not it that works."""

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, first_group_epoch: int) -> None:
        """Before the first step."""

    def on_time_estimate(self, seconds: float) -> None:
        """Once, after the first steps: how long the steps that are left will take at their pace, k-means not counted."""

    def on_step_end(self) -> None:
        """After every step. Called without waiting for the device."""

    def on_epoch_end(self, record: dict[str, object]) -> None:
        """After every epoch, with the line that goes into events.jsonl."""


class CallbackForwarder(Callback):
    """Passes on what it hears: `send(what, *values)`, to other listeners or to another process."""

    def __init__(self, send: Callable[..., None]) -> None:
        self.send = send

    def on_progress(self, done: int, of: int, waiting: str) -> None:
        self.send("on_progress", done, of, waiting)

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, first_group_epoch: int) -> None:
        self.send("on_train_start", epochs, steps_per_epoch, first_epoch, first_group_epoch)

    def on_time_estimate(self, seconds: float) -> None:
        self.send("on_time_estimate", seconds)

    def on_step_end(self) -> None:
        self.send("on_step_end")

    def on_epoch_end(self, record: dict[str, object]) -> None:
        self.send("on_epoch_end", record)
