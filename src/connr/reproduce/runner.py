"""Runs rows x seeds as run folders. Finished runs are skipped, interrupted ones continue, and stage 1 is shared.

Rows that differ in stage 2 only have the same stage 1, step by step, so the first of them trains it and the others start
from its checkpoint; `tests/test_run.py` shows that this changes nothing.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from connr import recipe, runs
from connr.data import ImageSet
from connr.engine import Callback, checkpoint
from connr.errors import InputError
from connr.recipe import Recipe
from connr.reproduce.plan import Cell, count, stage_1_of
from connr.reproduce.steps import first_group_epoch, first_step
from connr.run_folder import differences

GPU_FLOPS = 60e12  # per second, what a data-centre GPU is assumed to sustain on these networks; an estimate, not a measurement


def reproduce(
    todo: list[Cell],
    images: dict[str, ImageSet],
    device: str,
    callback: Callable[[Cell], AbstractContextManager[Callback]],
    devices: int = 1,
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Runs the cells that are not finished.

    Args:
        todo: from `cells`.
        images: by data set, labelled.
        device: `auto`, `cpu`, `cuda` or `mps`.
        callback: for each cell, a context manager and callback of its run.
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
            with callback(cell) as run_callback:
                runs.fit(
                    cell.recipe,
                    images[cell.data_set],
                    cell.folder,
                    resume=cell.folder.holds_a_run(),
                    start_from=first_of.get(shared),
                    device=device,
                    devices=devices,
                    callback=run_callback,
                )
        t0 = first_group_epoch(cell.recipe)
        end_of_stage_1 = checkpoint.after(cell.folder.checkpoints, t0)
        if t0 < cell.recipe.train.epochs and end_of_stage_1.is_file():
            first_of.setdefault(shared, end_of_stage_1)
        seconds = sum(record["seconds"] for record in runs.history(cell.folder))
        found.setdefault((cell.data_set, cell.row.name), []).append({**runs.evaluate(cell.folder), "seconds": seconds})
    return found


def _refuse_another_recipe(cell: Cell, n: int) -> None:
    """Refuses a run with other settings in the same folder."""
    if not cell.folder.holds_a_run():
        return
    there, asked = recipe.load(str(cell.folder.recipe)), runs.clamp_to_data(cell.recipe, n)
    filled = {"size": asked.data.size or there.data.size, "features": asked.data.features or there.data.features}
    asked = asked.model_copy(update={"data": asked.data.model_copy(update=filled), "description": there.description})
    if asked != there:
        differ = differences(there.to_yaml(), asked.to_yaml())
        raise InputError(f"{cell.folder.path} holds a run of another recipe; give another --out, or delete it:\n{differ}")


class Cost(NamedTuple):
    """Seconds per seed of a cell: on this machine, and estimated for a data-centre GPU."""

    here: float
    gpu: float


def measure(cell: Cell, batch: int = 32) -> Cost:
    """Times training steps of a cell's stage 1 here, and counts the operations of one.

    Args:
        cell: its recipe is timed, on random images.
        batch: images in a timed step, at least 2; the time is scaled to the recipe's batch.

    Raises:
        InputError: the recipe does not say how many images its data set has.
    """
    steps, one = count(cell).steps, _one_step(cell.recipe, batch)
    whole = steps * cell.recipe.train.batch_size / batch
    flops = _operations(one)  # the first step, which is not timed
    return Cost(min(_seconds(one) for _ in range(3)) * whole, flops * whole / GPU_FLOPS)


def _one_step(r: Recipe, batch: int) -> Callable[[], Any]:
    """Views, forward, backward, optimiser and target of the first phase on a small batch."""
    step = first_step(r, batch)
    return lambda: step.run(step.phases[0])


def _seconds(one: Callable[[], Any]) -> float:
    began = time.monotonic()
    one()
    return time.monotonic() - began


def _operations(one: Callable[[], Any]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        one()
    return float(counter.get_total_flops())
