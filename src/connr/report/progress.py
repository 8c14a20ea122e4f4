"""Progress of a run: a bar in a terminal, otherwise a line at intervals."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from connr.engine import Callback

LINE_EVERY = 10.0  # seconds, without a terminal
ESTIMATE_FROM = 120.0  # seconds of expected training from which the estimate is printed


class ProgressBar(Callback):
    """Shows phase, epoch, loss, ACC with labels, and remaining time. A context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.epochs = self.per_epoch = self.epoch = 0
        self.phases: Sequence[tuple[str, int]] = ()
        self.said, self.summary, self.acc = 0.0, "", ""
        self.task = TaskID(0)
        self.passing: TaskID | None = None
        self.began = 0.0, 0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[summary]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> "ProgressBar":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def on_progress(self, done: int, of: int, waiting: str) -> None:
        if self.passing is None:
            self.passing = self.bar.add_task(waiting or "backbone", total=of, summary="")
            self.began = time.monotonic(), done
        self.bar.update(self.passing, completed=done, description=waiting or "backbone", summary=f"{done:,} of {of:,} images")
        if done == of:
            self.bar.remove_task(self.passing)
            self.passing = None
        elif not (self.quiet or self.console.is_terminal) and time.monotonic() - self.said > LINE_EVERY:
            self.said = time.monotonic()
            began, at = self.began
            left = (self.said - began) / (done - at) * (of - done) if done > at else None
            self.console.print(waiting or f"backbone {done:,} of {of:,} images{f', {duration(left)} left' if left else ''}")

    def on_train_start(self, epochs: int, steps_per_epoch: int, first_epoch: int, phases: Sequence[tuple[str, int]]) -> None:
        self.epochs, self.per_epoch, self.epoch, self.phases = epochs, steps_per_epoch, first_epoch, phases
        self.task = self.bar.add_task(
            self._where(), total=epochs * steps_per_epoch, completed=first_epoch * steps_per_epoch, summary=""
        )

    def on_time_estimate(self, seconds: float) -> None:
        if seconds >= ESTIMATE_FROM and not self.quiet:
            steps = (self.epochs - self.epoch) * self.per_epoch
            self.console.print(f"{steps:,} steps left will take about {duration(seconds)} on this machine.")

    def on_step_end(self) -> None:
        self.bar.advance(self.task)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        self.epoch = record["epoch"]
        if "acc" in record:
            self.acc = f"  ACC {record['acc']:.3f}"
        self.summary = f"loss {record['loss']:+.3f}{self.acc}"
        self.bar.update(self.task, description=self._where(), summary=self.summary)
        if self.quiet or self.console.is_terminal:
            return
        if time.monotonic() - self.said > LINE_EVERY or self.epoch in (*(first for _, first in self.phases), self.epochs):
            self.said = time.monotonic()
            self.console.print(f"{record['stage']:8s} epoch {self.epoch}/{self.epochs}  {self.summary}", highlight=False)

    def _where(self) -> str:
        begun = [name for name, first in self.phases if first <= self.epoch]
        phase = f"phase {len(begun)} of {len(self.phases)} {begun[-1]}  " if len(self.phases) > 1 and begun else ""
        return f"{phase}epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}"


def duration(seconds: float) -> str:
    """Two significant units at most: 45 s, 12 min, 3.5 hours, 4.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"
