"""Rows x seeds as run folders. What is done is not done again, what was interrupted goes on, and stage 1 is shared.

Rows that differ in stage 2 only have the same stage 1, step by step, so the first of them trains it and the others start
from its checkpoint; `tests/test_run.py` shows that this changes nothing.
"""

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from connr import experiment, recipe, run
from connr.data import ImageSet
from connr.errors import InputError
from connr.recipe import Boundary, Contextual, Recipe
from connr.reproduce.tables import Row, rows_of
from connr.run_folder import RunFolder, differences
from connr.training import Listener, checkpoint, update

GPU_FLOPS = 60e12  # per second, what a data-centre GPU is assumed to sustain on these networks; an estimate, not a measurement


class Cell(NamedTuple):
    """A row on a data set at one seed: its recipe and its run folder.

    Attributes:
        settings: the user's, `a.b=value`, under those of the row.
    """

    data_set: str
    row: Row
    seed: int
    recipe: Recipe
    folder: RunFolder
    settings: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The same run by hand; DATA stands for its images."""
        settings = (*self.settings, *settings_of(self.data_set, self.row, self.settings))
        written = "".join(f" --set {shlex.quote(setting)}" for setting in settings)
        return f"connr fit DATA --recipe {self.data_set}{self.row.recipe}{written} --seed {self.seed}"


def settings_of(data_set: str, row: Row, settings: tuple[str, ...] = ()) -> list[str]:
    """The settings of a row, with the k and the fraction of its recipe and the user's settings filled in.

    Raises:
        InputError: there is no such recipe.
    """
    group = recipe.load(data_set + row.recipe, settings).group
    k = getattr(group.neighbourhood, "k", Contextual(name="contextual").k)
    fraction = getattr(group.anchors, "fraction", Boundary(name="boundary").fraction)
    return [setting.format(k=k, fraction=fraction) for setting in row.settings]


def recipe_of(data_set: str, row: Row, seed: int, settings: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a row: the data set's, or the framework's on it, with the user's settings and then the row's.

    Raises:
        InputError: there is no such recipe.
    """
    return recipe.load(data_set + row.recipe, [*settings, *settings_of(data_set, row, settings)], seed=seed)


def cells(table: str, data_sets: tuple[str, ...], seeds: int, out: Path, settings: tuple[str, ...] = ()) -> Iterator[Cell]:
    """Every run of a table, rows of one seed together; the last, whole row first: it trains stage 1 for the others.

    Rows whose recipes are equal have one run folder, so that they are trained once.
    """
    for data_set in data_sets:
        rows = rows_of(table, data_set)
        both_stages = [row for row in rows if "train.group_from=1" not in row.settings]
        for seed in range(seeds):
            folder_of: dict[str, RunFolder] = {}
            for row in (*reversed(both_stages), *(row for row in rows if row not in both_stages)):
                r = recipe_of(data_set, row, seed, settings)
                place = re.sub("[^a-z0-9]+", "-", row.name.lower())
                folder = folder_of.setdefault(r.to_yaml(), RunFolder(out / data_set / place / f"seed-{seed}"))
                yield Cell(data_set, row, seed, r, folder, settings)


def reproduce(
    todo: list[Cell],
    images: dict[str, ImageSet],
    device: str,
    listener: Callable[[Cell], AbstractContextManager[Listener]],
    devices: int = 1,
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Runs what is not done yet.

    Args:
        todo: from `cells`.
        images: by data set, labelled.
        device: `auto`, `cpu`, `cuda` or `mps`.
        listener: entered around each run; it hears of the run's steps and epochs.
        devices: processes that share each batch of a run, at least 1.

    Returns:
        Scores of every seed, with `seconds`, by (data set, row).

    Raises:
        InputError: a run folder holds a run of another recipe.
    """
    for cell in todo:
        _refuse_another_recipe(cell, len(images[cell.data_set]))
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
                    devices=devices,
                    listener=ears,
                )
        end_of_stage_1 = checkpoint.after(cell.folder.checkpoints, cell.recipe.t0)
        if cell.recipe.t0 < cell.recipe.train.epochs and end_of_stage_1.is_file():
            first_of.setdefault(shared, end_of_stage_1)
        seconds = sum(record["seconds"] for record in run.history(cell.folder))
        found.setdefault((cell.data_set, cell.row.name), []).append({**run.evaluate(cell.folder), "seconds": seconds})
    return found


def _refuse_another_recipe(cell: Cell, n: int) -> None:
    """A run of other settings in the same folder is not a result of this table."""
    if not cell.folder.holds_a_run():
        return
    there, asked = recipe.load(str(cell.folder.recipe)), run.fitted_to(cell.recipe, n)
    filled = {"size": asked.data.size or there.data.size, "features": asked.data.features or there.data.features}
    asked = asked.model_copy(update={"data": asked.data.model_copy(update=filled), "description": there.description})
    if asked != there:
        differ = differences(there.to_yaml(), asked.to_yaml())
        raise InputError(f"{cell.folder.path} holds a run of another recipe; give another --out, or delete it:\n{differ}")


def stage_1_of(r: Recipe) -> str:
    """All of a recipe that stage 1 depends on, as text."""
    written = r.model_dump(mode="json")
    written["train"] = {key: value for key, value in written["train"].items() if key != "group_from"}
    return str({key: value for key, value in written.items() if key not in {"group", "description"}})


class Count(NamedTuple):
    """What one seed of a cell takes: images of its data set, and training steps."""

    images: int
    steps: int


class Cost(NamedTuple):
    """Seconds of one seed of a cell: on this machine, and estimated on one data-centre GPU."""

    here: float
    gpu: float


def count(cell: Cell) -> Count:
    """Images and steps of a cell, from its recipe alone: nothing is built, nothing runs.

    Raises:
        InputError: the recipe does not say how many images its data set has.
    """
    r = cell.recipe
    if r.data.images is None:
        raise InputError(f"the recipe for {cell.data_set} does not say how many images there are: set data.images.")
    return Count(r.data.images, r.data.images // r.train.batch_size * r.train.epochs)


def measure(cell: Cell, batch: int = 32) -> Cost:
    """Times training steps of a cell's stage 1 here, and counts the operations of one.

    Args:
        cell: whose recipe; the images are made up, of its size.
        batch: images in a timed step, at least 2; the time is scaled to the recipe's batch.

    Raises:
        InputError: the recipe does not say how many images its data set has.
    """
    steps, one = count(cell).steps, _one_step(cell.recipe, batch)
    whole = steps * cell.recipe.train.batch_size / batch
    flops = _operations(one)  # the first step, which is not timed
    return Cost(min(_seconds(one) for _ in range(3)) * whole, flops * whole / GPU_FLOPS)


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
