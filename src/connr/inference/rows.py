"""Predictions of a fitted model for new images, in chunks, and their scores against labels."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from connr import metrics, runs
from connr.clustering.assigners import Assigned
from connr.data import Skipped, open_for
from connr.data.stream import stream_for
from connr.engine.extraction import AT_A_TIME
from connr.errors import InputError
from connr.model import Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder


class PredictionChunk(NamedTuple):
    """Predictions for consecutive images: names, assignments, and the skipped files before or between them."""

    names: list[str]
    assigned: Assigned
    skipped: list[Skipped]


def assign(r: Recipe, model: Model, data: str | Path | Iterable[str]) -> tuple[Iterator[PredictionChunk], int | None]:
    """Predictions in the order of DATA, and the number of files or images; None if it is not known in advance.

    Chunks are as large as those that the fit used, so that the images it was fitted on get its very answers.

    Args:
        r, model: from `run.load_model`.
        data: one picture, a folder, an `.npz`, `digits`, or an iterable of paths; a file of features for a model of features.

    Raises:
        InputError: there is no such DATA. While it is read: a single picture cannot be read, or none of many can.
    """
    stream = stream_for(r, data, AT_A_TIME)

    rows = (PredictionChunk(chunk.names, model.assign(chunk.images), chunk.skipped) for chunk in stream.chunks)
    return rows, stream.total


def score(
    folder: RunFolder, data: str | Path, labels_from_folders: bool = False, device: str = "auto"
) -> tuple[dict[str, float], list[Skipped]]:
    """ACC, NMI, ARI and n of the model on DATA and its labels, and the files that could not be read.

    Raises:
        InputError: there is no model, no such DATA, or no label in it.
    """
    r, model = runs.load_model(folder, device)
    images = open_for(r, data, labels_from_folders=labels_from_folders, for_views=False)
    if not images.labelled:
        way_out = "add --labels-from-folders" if Path(data).is_dir() else "add an array `labels`"
        raise InputError(f"no image in {data} has a label: there is nothing to score against; {way_out}.")
    return metrics.scores(images.labels, model.assign(images.images).clusters), images.skipped
