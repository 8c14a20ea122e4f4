"""Images + recipe -> a finished run and its folder; and back from a folder to the model."""

import csv
import io
import json
import math
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from lightning.fabric import Fabric

from connr import __version__, experiment, metrics, recipe
from connr.data import ImageSet
from connr.errors import InputError, NotWritten, Stopped
from connr.frameworks import Framework
from connr.model import Assigned, Model
from connr.randomness import deterministic
from connr.ranks import ALONE, Ranks, launch
from connr.ranks.batch_norm import synchronise
from connr.recipe import Recipe
from connr.run_folder import RunFolder, append_line, differences, read_lines, write_bytes, write_text
from connr.training import Epoch, Listener, State, Told, checkpoint, stops, train

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
    devices: int = 1,
    listener: Listener | None = None,
) -> Fitted:
    """Trains, clusters, and writes the run folder.

    Args:
        r: what to do; `clusters` must be set.
        images: what to do it on.
        folder: where to write; None keeps everything in memory.
        resume: go on from the latest checkpoint in `folder`, whatever the number of devices was.
        start_from: a checkpoint of another run with the same network, e.g. its end of stage 1, to go on from.
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: processes that share each batch, one to a GPU; the result is that of one process, to rounding. Under
            `torchrun` it is the number of its processes, each of which calls this.
        listener: told of every step and epoch.

    Raises:
        InputError: the recipe does not fit the images, the folder is not free, or the device is not there.
        Diverged: training left the finite numbers.
        Stopped: SIGINT or SIGTERM came, and `folder` holds all that was done.
        NotWritten: a file could not be written; the checkpoints before it are whole.
        RankLost: one of several processes ended.
    """
    r, listener = fitted_to(r, len(images)), listener or Listener()
    kind = experiment.device_for(device, devices)
    ranks = launch.of_torchrun(kind)
    writes = ranks.rank == 0
    with ExitStack() as stack:
        if folder is None and devices > 1 and ranks.count == 1:
            folder = RunFolder(stack.enter_context(tempfile.TemporaryDirectory()))  # the ranks' checkpoints end here
        if folder and writes:
            _check_recipe(folder, r, resume)
            stack.enter_context(folder.claimed(r.to_yaml(), resume))
            stack.enter_context(_saying_what_is_safe(folder))
            if images.skipped:
                write_csv(folder.skipped, ("path", "reason"), images.skipped)
        ranks.wait()
        job = Job(r, images, images.statistics(), images.fingerprint(), folder, start_from, device)
        if devices > 1 and ranks.count == 1:
            with _pixels_on_disk(job) as light:
                launch.on_ranks(devices, kind, train_on_rank, light, lambda what, *values: getattr(listener, what)(*values))
            trained = prepared(job, ALONE)
        else:
            trained = prepared(job, ranks)
            train_here(job, trained, ranks, listener)
        if trained.state.clusters is None:
            raise InputError(f"{folder.path if folder else 'the run'} has no clusters: its last epoch is not finished.")
        model = Model(trained.framework.representation, trained.state.clusters.centroids, *job.normalisation, trained.device)
        fitted = Fitted(r, model, model.assign(images.images), trained.records)
        if folder and writes:
            save_model(r, model, folder, images.source)
            write_assignments(fitted.assigned, images, folder)
    return fitted


class Job(NamedTuple):
    """What every rank of a run is told."""

    recipe: Recipe
    images: ImageSet
    normalisation: tuple[list[float], list[float]]
    fingerprint: str
    folder: RunFolder | None
    start_from: Path | None
    device: str


class Trained(NamedTuple):
    """A network and how far its training has come."""

    framework: Framework
    optimizer: torch.optim.Optimizer
    fabric: Fabric
    state: State
    records: list[dict[str, Any]]

    @property
    def device(self) -> torch.device:
        return self.fabric.device


def prepared(job: Job, ranks: Ranks) -> Trained:
    """The network of a job on this rank's device, as its latest checkpoint has it, or new."""
    r, folder = job.recipe, job.folder
    fabric = experiment.fabric_for(r, job.device, launch.local_rank())
    framework = experiment.build(r).to(fabric.device)
    if r.train.batch_norm == "synchronised":
        synchronise(framework, ranks)
    if r.train.compile:
        for network in framework.children():
            network.compile()
    optimizer = experiment.optimizer_for(r, framework)
    found = checkpoint.checkpoints(folder.checkpoints) if folder else []
    state, records = State(), list[dict[str, Any]]()
    if latest := found[-1] if found else job.start_from:
        state = checkpoint.load(latest, framework, optimizer, job.fingerprint)
    if folder and found:
        records = [record for record in history(folder) if record["epoch"] <= state.epoch]
    return Trained(framework, optimizer, fabric, state, records)


def train_here(
    job: Job, trained: Trained, ranks: Ranks, listener: Listener, signals: tuple[signal.Signals, ...] = stops.SIGNALS
) -> None:
    """One rank's part of the training that is left; the first one writes events and checkpoints.

    Raises:
        Stopped: with all that was done in a checkpoint, where there is a folder.
    """
    r, images, folder = job.recipe, job.images, job.folder if ranks.rank == 0 else None
    framework, optimizer, fabric, state, records = trained
    plan = experiment.plan_for(r, *job.normalisation)

    def save() -> None:
        if folder:
            checkpoint.save(
                folder.checkpoints, framework, optimizer, state, job.fingerprint, r.train.keep_checkpoints, plan.t0
            )

    def after_epoch(epoch: Epoch) -> None:
        record = described(epoch, images)
        records.append(record)
        if folder:
            append_line(folder.events, record)
        save()
        listener.finished_epoch(record)

    if folder:
        write_text(folder.events, "".join(json.dumps(record) + "\n" for record in records))
    listener.started(plan.epochs, plan.steps_per_epoch(len(images)), state.epoch, plan.t0)
    pixels = images.images.to(fabric.device)
    with stops.listening(signals if job.folder else ()) as request, deterministic(r.train.deterministic):
        try:
            state.clusters = train(fabric, framework, optimizer, pixels, plan, state, after_epoch, listener, ranks, request)
        except Stopped as asked:
            save()
            raise Stopped(request.signal or asked.number) from None


def train_on_rank(ranks: Ranks, send: Callable[..., None], job: Job, pixels: Path) -> None:
    """What each process of `launch.on_ranks` does; the pixels are a file that all of them map."""
    shape = job.images.images.shape
    stored = torch.from_file(str(pixels), size=shape.numel(), dtype=torch.uint8).view(shape)
    job = job._replace(images=replace(job.images, images=stored))
    listener = Told(send) if ranks.rank == 0 else Listener()
    train_here(job, prepared(job, ranks), ranks, listener, (signal.SIGTERM,))


@contextmanager
def _pixels_on_disk(job: Job) -> Iterator[tuple[Job, Path]]:
    """The arguments of `train_on_rank`: a job that is light to send, and its pixels in a file of the run folder."""
    assert job.folder is not None
    path, pixels = job.folder.pixels, job.images.images
    try:
        with open(path, "wb") as file:
            pixels.contiguous().numpy().tofile(file)
        light = torch.zeros(1, dtype=torch.uint8).expand(pixels.shape)  # the shape, and one byte
        yield job._replace(images=replace(job.images, images=light)), path
    finally:
        path.unlink(missing_ok=True)


def _check_recipe(folder: RunFolder, r: Recipe, resume: bool) -> None:
    """Raises InputError where the run to go on with has another recipe, with what differs."""
    if resume and folder.holds_a_run() and (there := recipe.load(str(folder.recipe))) != r:
        raise InputError(f"{folder.path} holds a run of another recipe:\n{differences(there.to_yaml(), r.to_yaml())}")


@contextmanager
def _saying_what_is_safe(folder: RunFolder) -> Iterator[None]:
    """A fault of the disk becomes `NotWritten`, which tells what a resumed run would go on from."""
    try:
        yield
    except NotWritten:
        raise
    except OSError as fault:
        found = checkpoint.checkpoints(folder.checkpoints)
        safe = f"all up to {found[-1].name} is safe" if found else "there is no checkpoint yet"
        what = f"{fault.filename or folder.path} cannot be written: {fault.strerror or fault}"
        raise NotWritten(f"{what}; {safe}. Mend that and add --resume.") from fault


def history(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of a run's epochs so far."""
    return read_lines(folder.events)


def described(epoch: Epoch, images: ImageSet) -> dict[str, Any]:
    """The line of an epoch in events.jsonl; scores where clusters and labels are."""
    record = {key: value for key, value in epoch._asdict().items() if key != "clusters" and value not in (None, [])}
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


def read_config(folder: RunFolder) -> dict[str, Any]:
    """config.json as `save_model` wrote it.

    Raises:
        InputError: it is not there, or not so.
    """
    try:
        config: dict[str, Any] = json.loads(folder.config.read_text(encoding="utf-8"))
        return {"data": "", **config, "recipe": recipe.check(config["recipe"], str(folder.config))}
    except FileNotFoundError as fault:
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.") from fault
    except (OSError, KeyError, TypeError, ValueError) as fault:
        raise InputError(f"{folder.config} is not as a run writes it: {fault!r}.") from fault


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
