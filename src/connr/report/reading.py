"""Reads a run folder: recipe, epochs, assignments, skipped files, and the images of the fit."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from connr import recipe, runs
from connr.clustering.assigners import Assigned
from connr.data import ImageSet, Skipped, open_for
from connr.data.sources import is_remote
from connr.errors import InputError
from connr.recipe import Recipe
from connr.run_folder import RunFolder
from connr.schema import read_skipped


@dataclass(frozen=True)
class AssignmentTable:
    """assignments.csv: n names, the assignments, and labels (-1 for none) as indices into `class_names`."""

    names: list[str]
    assigned: Assigned
    labels: Int[Tensor, " n"]
    class_names: list[str]


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder; for an unfinished run `rows` is None, and `source` and `version` are empty."""

    folder: RunFolder
    recipe: Recipe
    records: list[dict[str, Any]]
    skipped: list[Skipped]
    rows: AssignmentTable | None
    source: str
    version: str

    @property
    def n_clusters(self) -> int:
        return self.recipe.clusters or 0


def read(folder: RunFolder) -> RunRecord:
    """Reads the record of a run, finished or not.

    Raises:
        InputError: the folder holds no run, or a file in it is not valid.
    """
    if not folder.holds_a_run():
        raise InputError(f"{folder.path} holds no run.")
    r, records = recipe.load(str(folder.recipe)), runs.history(folder)
    skipped = [Skipped(*row) for row in read_skipped(folder.skipped)]
    if not (folder.config.is_file() and folder.model.is_file() and folder.assignments.is_file()):
        return RunRecord(folder, r, records, skipped, None, "", "")
    config = runs.read_config(folder)
    if (config.clusters, config.recipe.takes_features) != (r.clusters, r.takes_features):
        raise InputError(f"{folder.config} and {folder.recipe} are of different runs.")
    return RunRecord(folder, r, records, skipped, _rows(folder, config.clusters), config.data, config.connr)


def images_of(account: RunRecord, data: str | None = None) -> ImageSet:
    """The images of a finished run, from DATA or from their original location.

    Raises:
        InputError: their location is unknown, they do not exist, or differ from those of assignments.csv.
    """
    path, given = account.folder.path, data or account.source
    if not given:
        raise InputError(f"{path} was fitted on arrays in memory; save them as an .npz and add it: connr report {path} DATA.")
    if data is None and is_remote(given):
        raise InputError(
            f"{path} was fitted on {given}, which needs the network, and a run folder alone starts no download; "
            f"name it to open it: connr report {path} {given}."
        )
    try:
        images = open_for(account.recipe, given, leave_out=path, cache=account.folder.cache)
    except InputError as fault:
        raise InputError(f"the images of {path}: {fault} If they moved: connr report {path} DATA.") from fault
    check_names(account, images, given)
    return images


def check_names(account: RunRecord, images: ImageSet, given: str) -> None:
    """Checks that images match assignments.csv in number, names and order."""
    there, asked = images.names, account.rows.names if account.rows else []
    if there == asked:
        return
    missing, new = sorted(set(asked) - set(there)), sorted(set(there) - set(asked))
    what = "; ".join(
        f"{len(names):,} {kind}, e.g. {names[0]!r}" for names, kind in ((missing, "are missing"), (new, "are new")) if names
    )
    raise InputError(
        f"the images in {given} are not those of {account.folder.assignments} "
        f"({len(there):,} against {len(asked):,}): {what or 'another order'}. Give the DATA that the run was fitted on."
    )


def shown(name: str) -> str:
    """A name as text: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def _rows(folder: RunFolder, n_clusters: int) -> AssignmentTable:
    placed = runs.read_assignments(folder, n_clusters)
    written = {row.label for row in placed} - {""}
    class_names = sorted(written, key=int) if all(name.isdecimal() for name in written) else sorted(written)
    index = {name: at for at, name in enumerate(class_names)} | {"": -1}
    assigned = Assigned(
        torch.tensor([row.cluster for row in placed]),
        torch.tensor([row.distance for row in placed]),
        torch.tensor([row.boundary_ratio for row in placed]),
    )
    return AssignmentTable(
        [row.path for row in placed], assigned, torch.tensor([index[row.label] for row in placed]), class_names
    )
