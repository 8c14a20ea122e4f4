"""Callbacks of a run."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from connr.clustering.kmeans import Clusters


class Epoch(NamedTuple):
    """One finished epoch.

    Attributes:
        epoch: number of finished epochs, >= 1.
        phase: name of the phase.
        metrics: means over the steps: `loss`, `gradient` (the norm of the gradient) and those of the method.
        lr: learning rate at the last step, before the factors of parameter roles.
        seconds: duration, including the pass over all images.
        clusters: of all images after the epoch; None if they were not computed.
        feature_std: see `engine.whole_set.Clustering`; None if clusters were not computed.
        warnings: of `engine.health`.
    """

    epoch: int
    phase: str
    metrics: Mapping[str, float]
    lr: float
    seconds: float
    clusters: Clusters | None
    feature_std: float | None
    warnings: list[str]


class Callback:
    """Base class of callbacks; every method does nothing by default."""

    def on_progress(self, done: int, of: int, waiting: str) -> None:
        """Called regularly while a frozen backbone computes features.

        Args:
            done: images finished.
            of: all images.
            waiting: the reason why nothing is computed at the moment; empty otherwise.
        """

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, phases: Sequence[tuple[str, int]]) -> None:
        """Called before the first step.

        Args:
            epochs: number of epochs of the run.
            steps_per_epoch: of the first epoch to train.
            first_epoch: number of epochs that were finished before.
            phases: name and first epoch of each.
        """

    def on_time_estimate(self, seconds: float) -> None:
        """Called once after the first steps.

        Args:
            seconds: estimated time of the remaining steps, without k-means.
        """

    def on_step_end(self) -> None:
        """Called after every step, without synchronising with the device."""

    def on_epoch_end(self, record: dict[str, object]) -> None:
        """Called after every epoch.

        Args:
            record: the line of events.jsonl.
        """


class CallbackForwarder(Callback):
    """Forwards every call as `send(method_name, *arguments)`, to other callbacks or to another process.

    Args:
        send: receives the name of the method and its arguments.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self.send = send

    def on_progress(self, done: int, of: int, waiting: str) -> None:
        self.send("on_progress", done, of, waiting)

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, phases: Sequence[tuple[str, int]]) -> None:
        self.send("on_train_start", epochs, steps_per_epoch, first_epoch, phases)

    def on_time_estimate(self, seconds: float) -> None:
        self.send("on_time_estimate", seconds)

    def on_step_end(self) -> None:
        self.send("on_step_end")

    def on_epoch_end(self, record: dict[str, object]) -> None:
        self.send("on_epoch_end", record)
