"""assignments.csv of a run: written from what the model said, read, and scored."""

from connr import metrics
from connr.data import ImageSet
from connr.errors import InputError
from connr.model import Assigned
from connr.run_folder import RunFolder
from connr.schema import Assignment
from connr.schema import read_assignments as read_rows
from connr.schema import write_assignments as write_rows


def write_assignments(assigned: Assigned, images: ImageSet, folder: RunFolder) -> None:
    """assignments.csv: a row per image, in the order of the images; `label` is empty where there is none."""
    labels = [_label(images, int(label)) for label in images.labels]
    columns = (images.names, assigned.clusters.tolist(), assigned.distances.tolist(), assigned.ratios.tolist(), labels)
    write_rows(folder.assignments, (Assignment(*row) for row in zip(*columns, strict=True)))


def read_assignments(folder: RunFolder, clusters: int | None = None) -> list[Assignment]:
    """The rows of a finished run, as `connr.schema.read_assignments`.

    Raises:
        InputError: the file is not there, or not as a run writes it.
    """
    return read_rows(folder.assignments, clusters)


def evaluate(folder: RunFolder) -> dict[str, float]:
    """ACC, NMI, ARI and n of assignments.csv.

    Raises:
        InputError: there is none, or no image in it has a label.
    """
    if not folder.assignments.exists():
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
