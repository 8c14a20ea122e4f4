"""assignments.csv: where each image went; written, and scored."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from connr import metrics
from connr.data import ImageSet
from connr.errors import InputError
from connr.model import Assigned
from connr.run_folder import RunFolder, write_text

CSV_COLUMNS = ("path", "cluster", "distance", "boundary_ratio", "label")


def write_assignments(assigned: Assigned, images: ImageSet, folder: RunFolder) -> None:
    """assignments.csv: a row per image, in the order of the images; `label` is empty where there is none."""
    labels = [_label(images, int(label)) for label in images.labels]
    columns = (images.names, assigned.clusters.tolist(), assigned.distances.tolist(), assigned.ratios.tolist(), labels)
    rows = ((name, c, f"{d:.6f}", f"{r:.6f}", label) for name, c, d, r, label in zip(*columns, strict=True))
    write_csv(folder.assignments, CSV_COLUMNS, rows)


def evaluate(folder: RunFolder) -> dict[str, float]:
    """ACC, NMI, ARI and n of assignments.csv.

    Raises:
        InputError: there is none, or no image in it has a label.
    """
    if not folder.assignments.is_file():
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.")
    try:
        with open(folder.assignments, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [(row["label"], int(row["cluster"])) for row in csv.DictReader(file)]
        if any(label is None or not 0 <= cluster < len(rows) for label, cluster in rows):
            raise ValueError("a cluster or label is none")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as fault:
        raise InputError(f"{folder.assignments} is not as a run writes it: {fault!r}.") from fault
    names = sorted({label for label, _ in rows} - {""})
    if not names:
        raise InputError(f"no image in {folder.assignments} has a label: there is nothing to score against.")
    labels = [names.index(label) if label else -1 for label, _ in rows]
    return metrics.scores(labels, [cluster for _, cluster in rows])


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
