"""assignments.csv: where each image went; written, read, and scored."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from connr import metrics
from connr.data import ImageSet
from connr.errors import InputError
from connr.model import Assigned
from connr.run_folder import RunFolder, write_text


class Placed(NamedTuple):
    """A row; `label` is empty where there is none."""

    path: str
    cluster: int
    distance: float
    boundary_ratio: float
    label: str


def write_assignments(assigned: Assigned, images: ImageSet, folder: RunFolder) -> None:
    """assignments.csv: a row per image, in the order of the images; `label` is empty where there is none."""
    labels = [_label(images, int(label)) for label in images.labels]
    columns = (images.names, assigned.clusters.tolist(), assigned.distances.tolist(), assigned.ratios.tolist(), labels)
    rows = ((name, c, f"{d:.6f}", f"{r:.6f}", label) for name, c, d, r, label in zip(*columns, strict=True))
    write_csv(folder.assignments, Placed._fields, rows)


def read_assignments(folder: RunFolder, clusters: int | None = None) -> list[Placed]:
    """The rows of a finished run, one at least.

    Args:
        clusters: how many there are; None where that is not known.

    Raises:
        InputError: the file is not there, or not as a run writes it.
    """
    try:
        with open(folder.assignments, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = [_placed(row) for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("it has no rows")
        for row in rows:
            if not 0 <= row.cluster < (clusters or len(rows)):
                raise ValueError(f"there is no cluster {row.cluster}")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as fault:
        raise InputError(f"{folder.assignments} is not as a run writes it: {fault!r}.") from fault
    return rows


def _placed(row: dict[str, str]) -> Placed:
    if any(row[column] is None for column in Placed._fields):
        raise ValueError(f"a row ends too soon: {row}")
    return Placed(row["path"], int(row["cluster"]), float(row["distance"]), float(row["boundary_ratio"]), row["label"])


def evaluate(folder: RunFolder) -> dict[str, float]:
    """ACC, NMI, ARI and n of assignments.csv.

    Raises:
        InputError: there is none, or no image in it has a label.
    """
    if not folder.assignments.is_file():
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.")
    rows = read_assignments(folder)
    names = sorted({row.label for row in rows} - {""})
    if not names:
        raise InputError(f"no image in {folder.assignments} has a label: there is nothing to score against.")
    labels = [names.index(row.label) if row.label else -1 for row in rows]
    return metrics.scores(labels, [row.cluster for row in rows])


def _label(images: ImageSet, label: int) -> str:
    if label < 0:
        return ""
    return images.class_names[label] if label < len(images.class_names) else str(label)


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    """Rows as RFC 4180 text, written whole."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
