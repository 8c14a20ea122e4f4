"""What happens in a run, to the logger `connr` of Python's `logging`: nothing is shown unless a program asks for it."""

import logging
from collections.abc import Sequence
from typing import Any

from connr.engine.callbacks import Callback

LOGGER = logging.getLogger("connr")


class TextLog(Callback):
    """A line for each epoch at level INFO, its warnings at WARNING."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, phases: Sequence[tuple[str, int]]) -> None:
        self.epochs = epochs
        LOGGER.info("training from epoch %d to %d, %d steps each", first_epoch + 1, epochs, steps_per_epoch)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        LOGGER.info("epoch %d/%d, loss %.4f, %.1f s", record["epoch"], self.epochs, record["loss"], record["seconds"])
        for warning in record.get("warnings", ()):
            LOGGER.warning("epoch %d: %s", record["epoch"], warning)
