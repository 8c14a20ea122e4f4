"""assignments.csv: the cluster of each image."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import FailFast, Field, TypeAdapter, ValidationError

from connr.errors import InputError
from connr.recipe.section import MAX_CLUSTERS
from connr.schema.record import LARGEST, faults
from connr.schema.tables import read_csv, write_csv


class AssignmentRow(NamedTuple):
    """A row.

    Attributes:
        path: the name of the image.
        cluster: from 0.
        distance: from its features to the centroid.
        boundary_ratio: of Eq. 11, 0 on the centroid, 1 half-way to the next one.
        label: empty where there is none.
    """

    path: str
    cluster: int
    distance: float
    boundary_ratio: float
    label: str


COLUMNS = AssignmentRow._fields
CLUSTERS = TypeAdapter(Annotated[list[Annotated[int, Field(ge=0, lt=MAX_CLUSTERS)]], FailFast()])
DISTANCES = TypeAdapter(Annotated[list[Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]], FailFast()])
RATIOS = TypeAdapter(Annotated[list[Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]], FailFast()])


def read_assignments(path: Path, clusters: int | None = None) -> list[AssignmentRow]:
    """The rows of a finished run, one at least.

    Args:
        path: of the file.
        clusters: number of clusters, at most the number of rows; None if unknown.

    Raises:
        InputError: the file is not there, or not as a run writes it.
    """
    cells = read_csv(path, COLUMNS)
    wrong = f"{path} is not as a run writes it"
    if not cells:
        raise InputError(f"{wrong}: it has no rows.")
    if clusters is not None and clusters > len(cells):
        raise InputError(f"{wrong}: it has {len(cells):,} rows, fewer than the {clusters:,} clusters.")
    names, labels = [row[0] for row in cells], [row[4] for row in cells]
    numbers = [[_plain(text) for text in row[1:4]] for row in cells]
    try:
        found = CLUSTERS.validate_python([row[0] for row in numbers])
        distances = DISTANCES.validate_python([row[1] for row in numbers])
        ratios = RATIOS.validate_python([row[2] for row in numbers])
    except ValidationError as fault:
        raise InputError(f"{wrong}: row {faults(fault)}.") from fault
    if (highest := max(found)) >= (clusters or len(cells)):
        raise InputError(f"{wrong}: there is no cluster {highest}.")
    return [AssignmentRow(*row) for row in zip(names, found, distances, ratios, labels, strict=True)]


def write_assignments(path: Path, rows: Iterable[AssignmentRow]) -> None:
    """Writes the file atomically; numbers have six decimals."""
    write_csv(
        path, COLUMNS, ((row.path, row.cluster, f"{row.distance:.6f}", f"{row.boundary_ratio:.6f}", row.label) for row in rows)
    )


def _plain(text: str) -> str:
    """Accepts only short ASCII text, as in files of a run."""
    return text if len(text) <= 32 and text.isascii() else "?"
