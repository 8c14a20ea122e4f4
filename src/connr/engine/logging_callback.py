"""A run's numbers into any logger of Lightning Fabric: TensorBoard, CSV, or one of your own. None by default."""

from typing import Any

from lightning_fabric.loggers.logger import Logger

from connr.engine.callbacks import Callback


class LoggingCallback(Callback):
    """Writes the numbers of every epoch as they come, the epoch being their step.

    Args:
        logger: e.g. `TensorBoardLogger(root_dir)`.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger, self.epochs = logger, 0

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, first_group_epoch: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        self.logger.log_metrics(numbers(record), step=record["epoch"])
        self.logger.save()  # so that what is there can be looked at while the run goes on
        if record["epoch"] == self.epochs:
            self.logger.finalize("success")


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """What of a line of events.jsonl is a number; of the cluster sizes the smallest and the largest."""
    found = {key: float(value) for key, value in record.items() if isinstance(value, int | float) and key != "epoch"}
    if sizes := record.get("cluster_sizes"):
        found |= {"cluster_size/smallest": float(min(sizes)), "cluster_size/largest": float(max(sizes))}
    return found
