"""The plan of a table or figure: recipe, run folder, command and cost of each row and seed.

Nothing here imports torch, so that a dry run answers at once.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from connr import recipe
from connr.clustering.anchors import Boundary
from connr.errors import InputError
from connr.neighbours.contextual import ContextualConfig
from connr.recipe import Recipe
from connr.reproduce.tables import TABLES, Row, rows_of
from connr.run_folder import RunFolder

FIGURES = {"figure2": "cifar10", "figure4": "cifar10", "figure5": "imagenet10"}  # the paper's sets; figure3 is a table
SPEED = "table3"


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
        """The equivalent `connr fit` command; DATA stands for its images."""
        settings = (*self.settings, *settings_of(self.data_set, self.row, self.settings))
        written = "".join(f" --set {shlex.quote(setting)}" for setting in settings)
        return f"connr fit DATA --recipe {self.data_set}{self.row.recipe}{written} --seed {self.seed}"


def settings_of(data_set: str, row: Row, settings: tuple[str, ...] = ()) -> list[str]:
    """The settings of a row, with the k and the fraction of its recipe and the user's settings filled in.

    Raises:
        InputError: there is no such recipe.
    """
    group: Any = getattr(recipe.load(data_set + row.recipe, settings).method, "group", None)
    k = getattr(getattr(group, "neighbourhood", None), "k", ContextualConfig().k)
    fraction = getattr(getattr(group, "anchors", None), "fraction", Boundary().fraction)
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
        both_stages = [row for row in rows if "method.start=1" not in row.settings]
        for seed in range(seeds):
            folder_of: dict[str, RunFolder] = {}
            for row in (*reversed(both_stages), *(row for row in rows if row not in both_stages)):
                r = recipe_of(data_set, row, seed, settings)
                place = re.sub("[^a-z0-9]+", "-", row.name.lower())
                folder = folder_of.setdefault(r.to_yaml(), RunFolder(out / data_set / place / f"seed-{seed}"))
                yield Cell(data_set, row, seed, r, folder, settings)


def of(what: str, data_set: str | None, seeds: int, out: Path, settings: tuple[str, ...] = ()) -> list[Cell]:
    """The runs of a table, or those that a figure is drawn from.

    Args:
        what: the table or figure.
        data_set: the recipe whose data set it is made on; None for the data sets of the paper.
        seeds: of each row, at least 1.
        out: the run folders go below it.
        settings: applied to every recipe, `a.b=value`; those of a row override them.

    Raises:
        InputError: there is no such table, figure or recipe, or a setting is wrong.
    """
    if what in TABLES:
        return list(cells(what, (data_set,) if data_set else TABLES[what].data_sets, seeds, out / what, settings))
    if what in FIGURES:
        of_table_2 = cells("table2", (data_set or FIGURES[what],), seeds, out / "table2", settings)
        return [cell for cell in of_table_2 if cell.row == TABLES["table2"].rows[-1]]
    raise InputError(f"{what!r} is not one of: {', '.join(sorted((*TABLES, *FIGURES, SPEED)))}.")


def speed_recipes(data_set: str | None, settings: tuple[str, ...] = ()) -> dict[str, Recipe]:
    """The recipes of Table 3, by name: one, or the paper's five.

    Raises:
        InputError: there is no such recipe, or a setting is wrong.
    """
    return {name: recipe.load(name, settings) for name in ((data_set,) if data_set else TABLES["table1"].data_sets)}


def check_data(what: str, todo: list[Cell], data: str | None) -> None:
    """Refuses one DATA for several data sets.

    Raises:
        InputError: DATA is given, and `what` is made on more than one data set.
    """
    names = list(dict.fromkeys(cell.data_set for cell in todo))
    if data is not None and len(names) > 1:
        from connr.data.named import ROOT

        raise InputError(
            f"{what} is made on {len(names)} data sets ({', '.join(names)}), and --data {data} is one: "
            f"say which with --recipe NAME, or leave out --data and set {ROOT} to the folder of all."
        )


def stage_1_of(r: Recipe) -> str:
    """The parts of a recipe on which stage 1 depends, as text."""
    written = r.model_dump(mode="json")
    written["method"] = {key: value for key, value in written["method"].items() if key not in {"start", "group"}}
    return str({key: value for key, value in written.items() if key != "description"})


class Count(NamedTuple):
    """The number of images and training steps of one seed of a cell."""

    images: int
    steps: int


def count(cell: Cell) -> Count:
    """Images and steps of a cell, from its recipe alone: nothing is built, nothing runs.

    Raises:
        InputError: the recipe does not say how many images its data set has.
    """
    r = cell.recipe
    if r.data.images is None:
        raise InputError(f"the recipe for {cell.data_set} does not say how many images there are: set data.images.")
    return Count(r.data.images, r.data.images // r.train.batch_size * r.train.epochs)


def counts(todo: list[Cell]) -> list[tuple[Cell, Count]]:
    """The images and steps per seed of each row.

    Raises:
        InputError: a recipe does not say how many images its data set has.
    """
    return [(cell, count(cell)) for cell in todo if cell.seed == 0]
