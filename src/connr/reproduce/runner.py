"""Rows x seeds as run folders. What is done is not done again, what was interrupted goes on, and stage 1 is shared.

Rows that differ in stage 2 only have the same stage 1, step by step, so the first of them trains it and the others start
from its checkpoint; `tests/test_run.py` shows that this changes nothing.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from connr import experiment, recipe, run
from connr.data import ImageSet
from connr.errors import InputError
from connr.recipe import Recipe
from connr.reproduce.tables import TABLES, Row
from connr.run_folder import RunFolder
from connr.training import Listener, checkpoint, update

GPU_FLOPS = 60e12  # per second, what a data-centre GPU is assumed to sustain on these networks; an estimate, not a measurement


class Cell(NamedTuple):
    """A row on a data set at one seed: its recipe and its place."""

    data_set: str
    row: Row
    seed: int
    recipe: Recipe
    folder: RunFolder

    @property
    def command(self) -> str:
        """The same run by hand; DATA stands for its images."""
        settings = "".join(f" --set {setting}" for setting in settings_of(self.data_set, self.row))
        return f"connr fit DATA --recipe {self.data_set}{self.row.recipe}{settings} --seed {self.seed}"


def settings_of(data_set: str, row: Row) -> list[str]:
    """What a row lays over its recipe, with the recipe's own k and fraction filled in.

    Raises:
        InputError: there is no such recipe.
    """
    plain = recipe.load(data_set + row.recipe)
    known = {"k": getattr(plain.group.neighbourhood, "k", 10), "fraction": getattr(plain.group.anchors, "fraction", 0.8)}
    return [setting.format(**known) for setting in row.settings]


def recipe_of(data_set: str, row: Row, seed: int) -> Recipe:
    """The recipe of a row: the data set's, or the framework's on it, with the row's settings.

    Raises:
        InputError: there is no such recipe.
    """
    return recipe.load(data_set + row.recipe, settings_of(data_set, row), seed=seed)


def cells(table: str, data_sets: tuple[str, ...], seeds: int, out: Path) -> Iterator[Cell]:
    """Every run of a table, rows of one seed together; the last, whole row first: it trains stage 1 for the others."""
    for data_set in data_sets:
        for seed in range(seeds):
            both_stages = [row for row in TABLES[table].rows if "train.group_from=1" not in row.settings]
            for row in (*reversed(both_stages), *(row for row in TABLES[table].rows if row not in both_stages)):
                place = re.sub("[^a-z0-9]+", "-", row.name.lower())
                yield Cell(
                    data_set, row, seed, recipe_of(data_set, row, seed), RunFolder(out / data_set / place / f"seed-{seed}")
                )


def reproduce(
    todo: list[Cell], images: dict[str, ImageSet], device: str, listener: Callable[[Cell], AbstractContextManager[Listener]]
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Runs what is not done yet.

    Args:
        todo: from `cells`.
        images: by data set, labelled.
        device: `auto`, `cpu`, `cuda` or `mps`.
        listener: entered around each run, and told of its steps and epochs.

    Returns:
        Scores of every seed, with `seconds`, by (data set, row).
    """
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    first_of: dict[tuple[str, int, str], Path] = {}  # stage 1 -> the checkpoint at its end
    for cell in todo:
        shared = cell.data_set, cell.seed, stage_1_of(cell.recipe)
        if not cell.folder.assignments.is_file():
            with listener(cell) as ears:
                run.fit(
                    cell.recipe,
                    images[cell.data_set],
                    cell.folder,
                    resume=cell.folder.holds_a_run(),
                    start_from=first_of.get(shared),
                    device=device,
                    listener=ears,
                )
        end_of_stage_1 = checkpoint.after(cell.folder.checkpoints, cell.recipe.t0)
        if cell.recipe.t0 < cell.recipe.train.epochs and end_of_stage_1.is_file():
            first_of.setdefault(shared, end_of_stage_1)
        seconds = sum(record["seconds"] for record in run.history(cell.folder))
        found.setdefault((cell.data_set, cell.row.name), []).append({**run.evaluate(cell.folder), "seconds": seconds})
    return found


def stage_1_of(r: Recipe) -> str:
    """All of a recipe that stage 1 depends on, as text."""
    written = r.model_dump(mode="json")
    written["train"] = {key: value for key, value in written["train"].items() if key != "group_from"}
    return str({key: value for key, value in written.items() if key not in {"group", "description"}})


class Estimate(NamedTuple):
    """What a cell would take: steps, and hours on this machine (None where not timed) and on one data-centre GPU."""

    images: int
    steps: int
    hours_here: float | None
    hours_gpu: float


def dry_run(cell: Cell, timed: bool) -> Estimate:
    """Counts the steps of a cell; counts the operations of one, and times it on made-up images of its size if `timed`.

    Raises:
        InputError: the recipe does not say how many images its data set has.
    """
    r = cell.recipe
    if r.data.images is None:
        raise InputError(f"the recipe for {cell.data_set} does not say how many images there are: set data.images.")
    steps = r.data.images // r.train.batch_size * r.train.epochs
    one = _one_step(r, small := 32)
    flops = _operations(one) * r.train.batch_size / small
    hours_here = None
    if timed:
        one()
        hours_here = min(_seconds(one) for _ in range(3)) * r.train.batch_size / small * steps / 3600
    return Estimate(r.data.images, steps, hours_here, flops / GPU_FLOPS * steps / 3600)


def _one_step(r: Recipe, batch: int) -> Callable[[], Any]:
    """Forward, backward, optimiser and target of stage 1 on a small batch."""
    plan = experiment.plan_for(r, [0.5] * r.data.channels, [0.25] * r.data.channels)
    framework = experiment.build(r)
    optimizer = experiment.optimizer_for(r, framework)
    pixels = torch.randint(0, 256, (batch, r.data.channels, r.data.size, r.data.size), dtype=torch.uint8)
    stage, generator = plan.stages[0], torch.Generator().manual_seed(0)

    def one() -> None:
        views = stage.views(pixels, generator), stage.views(pixels, generator)
        update(framework, optimizer, views, torch.arange(batch), stage.sockets(0, None), 0.99)

    return one


def _seconds(one: Callable[[], Any]) -> float:
    began = time.monotonic()
    one()
    return time.monotonic() - began


def _operations(one: Callable[[], Any]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        one()
    return float(counter.get_total_flops())
