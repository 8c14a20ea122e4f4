"""Images + recipe -> a finished run and its folder; and back from a folder to the model."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from connr import __version__, experiment, metrics, recipe
from connr.data import ImageSet
from connr.errors import InputError
from connr.model import Assigned, Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder, append_line, read_lines, write_bytes, write_text
from connr.training import Epoch, Listener, State, checkpoint, train

CSV_COLUMNS = ("path", "cluster", "distance", "boundary_ratio", "label")


@dataclass(frozen=True)
class Fitted:
    """A finished run: its model, what it says of the images it was fitted on, and a record per epoch."""

    recipe: Recipe
    model: Model
    assigned: Assigned
    history: list[dict[str, Any]] = field(default_factory=list)


def fitted_to(r: Recipe, n: int) -> Recipe:
    """The recipe with a batch no larger than the n images.

    Raises:
        InputError: there are fewer images than clusters, no number of clusters, or a batch too small for the neighbours.
    """
    if r.clusters is None:
        raise InputError("the number of clusters is not given; add --clusters K.")
    if n < r.clusters:
        raise InputError(f"clusters={r.clusters} is more than the {n} images.")
    if r.train.batch_size <= n:
        return r
    smaller = {**r.model_dump(), "train": {**r.train.model_dump(), "batch_size": n}}
    return recipe.check(smaller, f"for {n} images")


def fit(
    r: Recipe,
    images: ImageSet,
    folder: RunFolder | None = None,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    device: str = "auto",
    listener: Listener | None = None,
) -> Fitted:
    """Trains, clusters, and writes the run folder.

    Args:
        r: what to do; `clusters` must be set.
        images: what to do it on.
        folder: where to write; None keeps everything in memory.
        resume: go on from the latest checkpoint in `folder`.
        start_from: a checkpoint of another run with the same network, e.g. its end of stage 1, to go on from.
        device: `auto`, `cpu`, `cuda` or `mps`.
        listener: told of every step and epoch.

    Raises:
        InputError: the recipe does not fit the images, the folder is not free, or the device or the log is not to be had.
    """
    r, listener = fitted_to(r, len(images)), listener or Listener()
    fabric = experiment.fabric_for(r, device)
    log = experiment.log_for(r, folder.log if folder else None)
    framework = experiment.build(r).to(fabric.device)
    if folder:
        folder.claim(r.to_yaml(), resume)
        if images.skipped:
            write_csv(folder.skipped, ("path", "reason"), images.skipped)

    (mean, std), fingerprint = images.statistics(), images.fingerprint()
    plan = experiment.plan_for(r, mean, std)
    optimizer = experiment.optimizer_for(r, framework)
    state, records = State(), list[dict[str, Any]]()
    found = checkpoint.checkpoints(folder.checkpoints) if folder else []
    if latest := found[-1] if found else start_from:
        state = checkpoint.load(latest, framework, optimizer, fingerprint)
    if folder and found:
        records = [record for record in history(folder) if record["epoch"] <= state.epoch]
    if folder:
        write_text(folder.events, "".join(json.dumps(record) + "\n" for record in records))

    def after_epoch(epoch: Epoch) -> None:
        record = described(epoch, images)
        records.append(record)
        if folder:
            append_line(folder.events, record)
            checkpoint.save(folder.checkpoints, framework, optimizer, state, fingerprint, r.train.keep_checkpoints, plan.t0)
        log.finished_epoch(record)
        listener.finished_epoch(record)

    for told in (log, listener):
        told.started(plan.epochs, plan.steps_per_epoch(len(images)), state.epoch, plan.t0)
    pixels = images.images.to(fabric.device)
    clusters = train(fabric, framework, optimizer, pixels, plan, state, after_epoch, listener)
    model = Model(framework.representation, clusters.centroids, mean, std, fabric.device)
    fitted = Fitted(r, model, model.assign(pixels), records)
    if folder:
        save_model(r, model, folder, images.source)
        write_assignments(fitted.assigned, images, folder)
    return fitted


def history(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of a run's epochs so far."""
    return read_lines(folder.events)


def described(epoch: Epoch, images: ImageSet) -> dict[str, Any]:
    """The line of an epoch in events.jsonl; scores where clusters and labels are."""
    record = {key: value for key, value in epoch._asdict().items() if key != "clusters" and value is not None}
    if epoch.clusters:
        sizes = torch.bincount(epoch.clusters.assignments.cpu(), minlength=len(epoch.clusters.centroids))
        record |= {"inertia": epoch.clusters.inertia, "cluster_sizes": sizes.tolist()}
        if images.labelled:
            record |= metrics.scores(images.labels, epoch.clusters.assignments.cpu())
    return record


def save_model(r: Recipe, model: Model, folder: RunFolder, source: str = "") -> None:
    """model.safetensors (network and centroids) and config.json (recipe, normalisation, version, the images' source)."""
    weights = {f"representation.{name}": value for name, value in model.representation.state_dict().items()}
    tensors = {**weights, "centroids": model.centroids}
    write_bytes(folder.model, safetensors.torch.save(checkpoint.on_cpu(tensors)))
    config = {
        "connr": __version__,
        "data": source,
        "recipe": r.model_dump(mode="json"),
        "mean": model.mean,
        "std": model.std,
    }
    write_text(folder.config, json.dumps(config, indent=2) + "\n")


def load_model(folder: RunFolder, device: str = "auto") -> tuple[Recipe, Model]:
    """The recipe and the fitted model of a finished run. Nothing in the folder is run as code.

    Raises:
        InputError: the folder holds no finished run, or its files are broken.
    """
    if not (folder.config.is_file() and folder.model.is_file()):
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.")
    try:
        config = json.loads(folder.config.read_text(encoding="utf-8"))
        r = recipe.check(config["recipe"], str(folder.config))
        with safetensors.safe_open(folder.model, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        centroids = tensors.pop("centroids")
        representation = experiment.build(r).representation
        representation.load_state_dict({name.removeprefix("representation."): value for name, value in tensors.items()})
        mean, std = [float(x) for x in config["mean"]], [float(x) for x in config["std"]]
        known = (len(mean), len(std), centroids.shape) == (r.data.channels, r.data.channels, (r.clusters, centroids.shape[1]))
        if not known or not centroids.isfinite().all() or not all(math.isfinite(x) for x in mean + std):
            raise ValueError("its numbers are not those of its recipe")
    except (OSError, KeyError, TypeError, ValueError, IndexError, safetensors.SafetensorError, RuntimeError) as fault:
        raise InputError(f"the model in {folder.path} cannot be read: {fault}") from fault
    return r, Model(representation, centroids, mean, std, experiment.fabric_for(r, device).device)


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
