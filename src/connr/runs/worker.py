"""What each rank of a run does: the network as the latest checkpoint has it, and the training that is left."""

import signal
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import nn

from connr import experiment, metrics, stops
from connr.data import ImageSet, resident
from connr.errors import Stopped
from connr.frameworks import Framework
from connr.randomness import deterministic
from connr.distributed import Communicator, launch
from connr.distributed.batch_norm import synchronise
from connr.recipe import Recipe
from connr.run_folder import RunFolder
from connr.schema import append_epoch, read_epochs, write_epochs
from connr.engine import Epoch, Callback, State, CallbackForwarder, checkpoint, train


class Job(NamedTuple):
    """What every rank of a run is told."""

    recipe: Recipe
    images: ImageSet
    normalisation: tuple[list[float], list[float]]
    fingerprint: str
    folder: RunFolder | None
    start_from: Path | None
    device: str
    encoder: nn.Module | None = None  # a pretrained one, that is trained further


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


def prepared(job: Job, communicator: Communicator) -> Trained:
    """The network of a job on this rank's device, as its latest checkpoint has it, or new."""
    r, folder = job.recipe, job.folder
    fabric = experiment.fabric_for(r, job.device, launch.local_rank())
    framework = experiment.build(r, deepcopy(job.encoder)).to(fabric.device)
    if r.train.batch_norm == "synchronised":
        synchronise(framework, communicator)
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
    job: Job, trained: Trained, communicator: Communicator, callback: Callback, signals: tuple[signal.Signals, ...] = stops.SIGNALS
) -> None:
    """One rank's part of the training that is left; the first one writes events and checkpoints.

    Raises:
        Stopped: with all that was done in a checkpoint, where there is a folder.
    """
    r, images, folder = job.recipe, job.images, job.folder if communicator.rank == 0 else None
    framework, optimizer, fabric, state, records = trained
    plan = replace(experiment.plan_for(r, *job.normalisation), clustered=images.clustered)

    def save() -> None:
        if folder:
            checkpoint.save(
                folder.checkpoints, framework, optimizer, state, job.fingerprint, r.train.keep_checkpoints, plan.t0
            )

    def after_epoch(epoch: Epoch) -> None:
        record = described(epoch, images)
        records.append(record)
        if folder:
            append_epoch(folder.events, record)
        save()
        callback.on_epoch_end(record)

    if folder:
        write_epochs(folder.events, records)
    callback.on_train_start(plan.epochs, plan.steps_per_epoch(len(images)), state.epoch, plan.t0)
    rows = resident(images.images, fabric.device, round(r.data.resident_gib * 2**30))
    with stops.listening(signals if job.folder else ()) as request, deterministic(r.train.deterministic):
        try:
            state.clusters = train(fabric, framework, optimizer, rows, plan, state, after_epoch, callback, communicator, request)
        except Stopped as asked:
            save()
            communicator.wait()  # the others, who have nothing to save, are not to leave before
            raise Stopped(request.signal or asked.number) from None


def train_in_process(communicator: Communicator, send: Callable[..., None], job: Job) -> None:
    """What each process of `launch.on_ranks` does; the images are in a file that all of them read."""
    callback = CallbackForwarder(send) if communicator.rank == 0 else Callback()
    train_here(job, prepared(job, communicator), communicator, callback, (signal.SIGTERM,))


def history(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of a run's epochs so far.

    Raises:
        InputError: a line is not what a run writes.
    """
    return read_epochs(folder.events)


def described(epoch: Epoch, images: ImageSet) -> dict[str, Any]:
    """The line of an epoch in events.jsonl; scores where clusters and labels are."""
    record = {key: value for key, value in epoch._asdict().items() if key != "clusters" and value not in (None, [])}
    if epoch.clusters:
        found = epoch.clusters.assignments[: images.clustered].cpu()
        sizes = torch.bincount(found, minlength=len(epoch.clusters.centroids))
        record |= {"inertia": epoch.clusters.inertia, "cluster_sizes": sizes.tolist()}
        if images.labelled:
            record |= metrics.scores(images.labels[: images.clustered], found)
    return record
