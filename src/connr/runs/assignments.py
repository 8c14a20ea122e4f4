"""assignments.csv of a run: writing, reading and scoring."""

from connr import metrics
from connr.clustering.assigners import Assigned
from connr.data import ImageSet
from connr.errors import InputError
from connr.run_folder import RunFolder
from connr.schema import AssignmentRow
from connr.schema import read_assignments as read_rows
from connr.schema import write_assignments as write_rows


def write_assignments(assigned: Assigned, images: ImageSet, folder: RunFolder) -> None:
    """Writes assignments.csv: a row per image, in the order of the images; `label` is empty for unlabelled images.

    Args:
        assigned: clusters of the n images.
        images: their names and labels.
        folder: of the run.
    """
    labels = [_label(images, int(label)) for label in images.labels]
    columns = (images.names, assigned.clusters.tolist(), assigned.distances.tolist(), assigned.ratios.tolist(), labels)
    write_rows(folder.assignments, (AssignmentRow(*row) for row in zip(*columns, strict=True)))


def read_assignments(folder: RunFolder, clusters: int | None = None) -> list[AssignmentRow]:
    """Reads assignments.csv of a finished run, see `connr.schema.read_assignments`.

    Args:
        folder: of the run.
        clusters: number of clusters, to check the cluster numbers against; None for no check.

    Raises:
        InputError: the file does not exist or is not valid.
    """
    return read_rows(folder.assignments, clusters)


def evaluate(folder: RunFolder) -> dict[str, float]:
    """Scores assignments.csv against its labels.

    Returns:
        ACC, NMI, ARI in [0, 1] (ARI may be negative), and n, the number of labelled images.

    Raises:
        InputError: the file does not exist, or no image in it has a label.
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
