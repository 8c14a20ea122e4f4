"""Images + recipe -> a finished run and its folder."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from connr import experiment, recipe
from connr.data import ImageSet, Stored, parts
from connr.data.image_set import AT_A_TIME
from connr.errors import InputError, NotWritten
from connr.model import Assigned, Model
from connr.ranks import ALONE, launch
from connr.recipe import Recipe
from connr.run.assignments import write_assignments, write_csv
from connr.run.rank import Job, prepared, train_here, train_on_rank
from connr.run.saved import save_model
from connr.run_folder import RunFolder, differences
from connr.training import Listener, Told, checkpoint


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
        InputError: the recipe does not fit the images, the folder is not free, the device or the log is not to be had.
        Diverged: training left the finite numbers.
        Stopped: SIGINT or SIGTERM came, and `folder` holds all that was done.
        NotWritten: a file could not be written; the checkpoints before it are whole.
        RankLost: one of several processes ended.
    """
    r, listener = fitted_to(r, len(images)), listener or Listener()
    kind = experiment.device_for(device, launch.ranks_here(devices))
    ranks = launch.of_torchrun(kind)
    writes = ranks.rank == 0
    heard = [experiment.log_for(r, folder.log if folder else None), listener] if writes else []

    def hear(what: str, *values: object) -> None:
        for each in heard:
            getattr(each, what)(*values)

    with ExitStack() as stack:
        if folder is None and devices > 1 and ranks.count == 1:
            folder = RunFolder(stack.enter_context(tempfile.TemporaryDirectory()))  # the ranks' checkpoints end here
        if folder and writes:
            _check_recipe(folder, r, resume)
            stack.enter_context(_saying_what_is_safe(folder))
            stack.enter_context(folder.claimed(r.to_yaml(), resume))
            if images.skipped:
                write_csv(folder.skipped, ("path", "reason"), images.skipped)
        ranks.wait()
        job = Job(r, images, images.statistics(), images.fingerprint(), folder, start_from, kind)
        if devices > 1 and ranks.count == 1:
            with _in_a_file(images, folder) as stored:
                launch.on_ranks(devices, kind, train_on_rank, (job._replace(images=stored),), hear)
            trained = prepared(job, ALONE)
        else:
            trained = prepared(job, ranks)
            train_here(job, trained, ranks, Told(hear))
        if trained.state.clusters is None:
            raise InputError(f"{folder.path if folder else 'the run'} has no clusters: its last epoch is not finished.")
        model = Model(trained.framework.representation, trained.state.clusters.centroids, *job.normalisation, trained.device)
        fitted = Fitted(r, model, model.assign(images.images), trained.records)
        if folder and writes:
            save_model(r, model, folder, images.source)
            write_assignments(fitted.assigned, images, folder)
    return fitted


@contextmanager
def _in_a_file(images: ImageSet, folder: RunFolder | None) -> Iterator[ImageSet]:
    """The same images in a file that other processes can read; for the time in the run folder, if they are in memory."""
    if isinstance(images.images, Stored):
        yield images
        return
    assert folder is not None
    try:
        with open(folder.pixels, "wb") as file:
            for part in parts(images.images, AT_A_TIME):
                file.write(part.contiguous().numpy().data)
        yield replace(images, images=Stored(folder.pixels, images.images.shape, images.images.dtype))
    finally:
        folder.pixels.unlink(missing_ok=True)


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
        what = f"{fault.filename or folder.path} cannot be written: {fault.strerror or fault}"
        raise NotWritten(f"{what}; {what_is_safe(folder)}. Mend that and add --resume.") from fault


def what_is_safe(folder: RunFolder) -> str:
    """What a resumed run would go on from, in words."""
    found = checkpoint.checkpoints(folder.checkpoints)
    return f"all up to {found[-1].name} is safe" if found else "there is no checkpoint yet"
