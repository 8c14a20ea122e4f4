"""Logs the metrics of a run with a logger of Lightning Fabric, for example TensorBoard or CSV."""

from collections.abc import Sequence
from typing import Any

from lightning_fabric.loggers.logger import Logger

from connr.engine.callbacks import Callback


class LoggingCallback(Callback):
    """Logs the metrics of every epoch; the step of the logger is the epoch.

    Args:
        logger: for example `TensorBoardLogger(root_dir)`.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger, self.epochs = logger, 0

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, phases: Sequence[tuple[str, int]]) -> None:
        self.epochs = epochs

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        self.logger.log_metrics(numbers(record), step=record["epoch"])
        self.logger.save()  # so that the log can be read during the run
        if record["epoch"] == self.epochs:
            self.logger.finalize("success")


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """The numeric values of a line of events.jsonl, with the smallest and the largest cluster size."""
    found = {key: float(value) for key, value in record.items() if isinstance(value, int | float) and key != "epoch"}
    if sizes := record.get("cluster_sizes"):
        found |= {"cluster_size/smallest": float(min(sizes)), "cluster_size/largest": float(max(sizes))}
    return found
