"""The part of each process of a run: it restores the latest checkpoint and trains the remaining epochs."""

import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import nn

from connr import experiment, metrics, stops
from connr.data import ImageSet, resident
from connr.distributed import Communicator, launch
from connr.distributed.batch_norm import synchronise
from connr.engine import Callback, CallbackForwarder, Epoch, State, Timeline, checkpoint, train
from connr.errors import Stopped
from connr.methods import Method
from connr.randomness import deterministic
from connr.recipe import Recipe
from connr.run_folder import RunFolder
from connr.schema import append_epoch, read_epochs, write_epochs


class Job(NamedTuple):
    """The arguments of a run that every process receives.

    Attributes:
        recipe: of the run.
        images: the training images, in a file if there are several processes.
        normalisation: mean and standard deviation of their channels or columns.
        fingerprint: of the data set.
        folder: of the run; None writes nothing.
        start_from: a checkpoint of another run to continue from.
        device: `cpu`, `cuda` or `mps`.
        encoder: a pretrained network that is fine-tuned.
    """

    recipe: Recipe
    images: ImageSet
    normalisation: tuple[list[float], list[float]]
    fingerprint: str
    folder: RunFolder | None
    start_from: Path | None
    device: str
    encoder: nn.Module | None = None


class Trained(NamedTuple):
    """A method and its training state.

    Attributes:
        method: on the device.
        fabric: of Lightning.
        state: the position in training.
        records: one per finished epoch.
    """

    method: Method
    fabric: Fabric
    state: State
    records: list[dict[str, Any]]

    @property
    def device(self) -> torch.device:
        return self.fabric.device


def prepare(job: Job, communicator: Communicator) -> Trained:
    """The method of a job on the device of this process, restored from its latest checkpoint, or new."""
    r, folder = job.recipe, job.folder
    fabric = experiment.fabric_for(r, job.device, launch.local_rank())
    method = experiment.build(r, deepcopy(job.encoder), len(job.images)).to(fabric.device)
    if r.train.batch_norm == "synchronised":
        synchronise(method, communicator)
    if r.train.compile:
        for network in method.networks():
            network.compile()
    found = checkpoint.checkpoints(folder.checkpoints) if folder else []
    state, records = State(), list[dict[str, Any]]()
    if latest := found[-1] if found else job.start_from:
        state = checkpoint.load(latest, method, job.fingerprint)
    if folder and found:
        records = [record for record in history(folder) if record["epoch"] <= state.epoch]
    return Trained(method, fabric, state, records)


def train_process(
    job: Job,
    trained: Trained,
    communicator: Communicator,
    callback: Callback,
    signals: tuple[signal.Signals, ...] = stops.SIGNALS,
) -> None:
    """Trains the remaining epochs. The process of rank 0 writes events and checkpoints.

    Args:
        job: of the run.
        trained: by `prepare`; updated in place.
        communicator: between the processes.
        callback: of this process.
        signals: that stop the training.

    Raises:
        Stopped: a signal was received; if there is a folder, it holds a checkpoint of the last finished step.
    """
    r, images, folder = job.recipe, job.images, job.folder if communicator.rank == 0 else None
    method, fabric, state, records = trained
    plan = experiment.plan_for(r, *job.normalisation, clustered=images.clustered)
    timeline = Timeline(method.phases(), plan.epochs, len(images), plan.batch_size)
    phases = [(segment.phase.name, segment.first_epoch) for segment in timeline.segments]
    ends = [segment.end_epoch for segment in timeline.segments]

    def save() -> None:
        if folder:
            checkpoint.save(folder.checkpoints, method, state, job.fingerprint, r.train.keep_checkpoints, ends)

    def after_epoch(epoch: Epoch) -> None:
        record = epoch_record(epoch, images)
        records.append(record)
        if folder:
            append_epoch(folder.events, record)
        save()
        callback.on_epoch_end(record)

    if folder:
        write_epochs(folder.events, records)
    steps_per_epoch = timeline.segment(min(state.epoch, plan.epochs - 1)).steps_per_epoch
    callback.on_train_start(plan.epochs, steps_per_epoch, state.epoch, phases)
    rows = resident(images.images, fabric.device, round(r.data.resident_gib * 2**30))
    with stops.listening(signals if job.folder else ()) as request, deterministic(r.train.deterministic):
        try:
            train(fabric, method, rows, plan, state, after_epoch, callback, communicator, request)
        except Stopped as stopped:
            save()
            communicator.wait()  # the other ranks, which save nothing, must not exit before rank 0
            raise Stopped(request.signal or stopped.number) from None


def train_in_process(communicator: Communicator, send: Callable[..., None], job: Job) -> None:
    """The function of each process of `launch.run_in_processes`; all read the images from one file."""
    callback = CallbackForwarder(send) if communicator.rank == 0 else Callback()
    train_process(job, prepare(job, communicator), communicator, callback, (signal.SIGTERM,))


def history(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of the finished epochs of a run.

    Raises:
        InputError: a line is not valid.
    """
    return read_epochs(folder.events)


def epoch_record(epoch: Epoch, images: ImageSet) -> dict[str, Any]:
    """The line of an epoch in events.jsonl; with scores if there are clusters and labels."""
    record: dict[str, Any] = {"epoch": epoch.epoch, "stage": epoch.phase, **epoch.metrics}
    record |= {"lr": epoch.lr, "seconds": epoch.seconds}
    record |= {} if epoch.feature_std is None else {"feature_std": epoch.feature_std}
    record |= {"warnings": epoch.warnings} if epoch.warnings else {}
    if epoch.clusters:
        found = epoch.clusters.assignments[: images.clustered].cpu()
        sizes = torch.bincount(found, minlength=len(epoch.clusters.centroids))
        record |= {"inertia": epoch.clusters.inertia, "cluster_sizes": sizes.tolist()}
        if images.labelled:
            record |= metrics.scores(images.labels[: images.clustered], found)
    return record
