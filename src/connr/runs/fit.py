"""Images + recipe -> a finished run and its folder."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from connr import experiment, pretrained, recipe
from connr.networks import Backbone, features_out
from connr.data import ImageSet, FileRows, parts
from connr.data.image_set import AT_A_TIME
from connr.errors import InputError, NotWritten
from connr.model import Assigned, Model, place
from connr.distributed import SINGLE_PROCESS, launch
from connr.recipe import Recipe
from connr.runs.assignments import write_assignments
from connr.runs.inputs import Inputs, inputs_of
from connr.runs.worker import Job, Trained, prepared, train_here, train_in_process
from connr.runs.saved import save_model
from connr.run_folder import RunFolder, differences
from connr.schema import write_skipped
from connr.engine import Callback, CallbackForwarder, checkpoint
from connr.engine.extraction import extract


@dataclass(frozen=True)
class Fitted:
    """A finished run: its model, what it says of the images it was fitted on, and a record per epoch."""

    recipe: Recipe
    model: Model
    assigned: Assigned
    history: list[dict[str, Any]] = field(default_factory=list)


def clamp_to_data(r: Recipe, n: int) -> Recipe:
    """The recipe with a batch no larger than the n images, and no more neighbours than they have.

    Raises:
        InputError: there are fewer images than clusters, no number of clusters, or a batch too small for the neighbours.
    """
    if r.clusters is None:
        raise InputError("the number of clusters is not given; add --clusters K.")
    if n < r.clusters:
        raise InputError(f"clusters={r.clusters} is more than the {n} images.")
    views = r.feature_views
    most = max(1, int(views.cluster_share * n / r.clusters)) if views.cluster_share else n - 1
    neighbours = min(views.neighbours, most, n - 1)
    if neighbours == views.neighbours and max(r.train.batch_size, views.k1, views.k2) <= n:
        return r
    smaller = r.model_dump()
    smaller["train"]["batch_size"] = min(n, r.train.batch_size)
    smaller["feature_views"] |= {"neighbours": neighbours, "k1": min(n, views.k1), "k2": min(n, views.k2)}
    if r.takes_features:  # tables are often small
        for stage in (smaller["instance"]["neighbourhood"], smaller["group"]["neighbourhood"]):
            stage |= {size: min(n, stage[size]) for size in ("k", "k1", "k2") if size in stage}
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
    callback: Callback | None = None,
    backbone: nn.Module | None = None,
) -> Fitted:
    """Trains, clusters, and writes the run folder.

    Args:
        r: what to do; `clusters` must be set.
        images: what to do it on.
        folder: where to write; None keeps everything in memory.
        resume: go on from the latest checkpoint in `folder`, whatever the number of devices was.
        start_from: a checkpoint of another run with the same network, e.g. its end of stage 1, to go on from.
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: processes that share each batch, one to a GPU. The result equals that of one process up to rounding,
            which training amplifies; `train.precision=64-true` shows it exactly. Under `torchrun` it is the number of its
            processes, each of which calls this.
        listener: told of every step and epoch.
        backbone: a network of the caller's own, in the place of the recipe's pretrained one.

    Raises:
        InputError: the recipe does not fit the images, the folder is not free, the device or the log is not available.
        Diverged: the loss became NaN or infinite.
        Stopped: SIGINT or SIGTERM came, and `folder` holds all that was done.
        NotWritten: a file could not be written; the checkpoints before it are whole.
        RankLost: one of several processes ended.
    """
    if images.clustered is not None and r.clusters is not None and images.clustered < r.clusters:
        raise InputError(f"clusters={r.clusters} is more than the {images.clustered} images that are clustered.")
    r, network = with_backbone(clamp_to_data(r, len(images)), images, backbone)
    callback = callback or Callback()
    kind = experiment.device_for(device, launch.local_processes(devices))
    communicator = launch.torchrun_communicator(kind)
    writes = communicator.rank == 0
    callbacks = [experiment.log_for(r, folder.log if folder else None), callback] if writes else []

    def forward_event(what: str, *values: object) -> None:
        for each in callbacks:
            getattr(each, what)(*values)

    with ExitStack() as stack:
        if folder is None and devices > 1 and communicator.count == 1:
            folder = RunFolder(stack.enter_context(tempfile.TemporaryDirectory()))  # the ranks' checkpoints end here
        if folder and writes:
            if resume and folder.holds_a_run():
                check_recipe(folder, r)
            stack.enter_context(_reporting_saved_progress(folder))
            stack.enter_context(folder.claimed(r.to_yaml(), resume))
        communicator.wait()
        fingerprint, device_ = images.fingerprint(), experiment.fabric_for(r, kind, launch.local_rank()).device
        if folder and writes:
            _check_images(folder, fingerprint)
            if images.skipped:
                write_skipped(folder.skipped, images.skipped)
        inputs = inputs_of(r, images, fingerprint, network, device_, CallbackForwarder(forward_event))
        trained_further = None if r.frozen or not network else network.network
        job = Job(r, inputs.images, inputs.normalisation, fingerprint, folder, start_from, kind, trained_further)
        if devices > 1 and communicator.count == 1:
            with _in_a_file(inputs.images, folder) as stored:
                launch.run_in_processes(devices, kind, train_in_process, (job._replace(images=stored),), forward_event)
            trained = prepared(job, SINGLE_PROCESS)
        else:
            trained = prepared(job, communicator)
            train_here(job, trained, communicator, CallbackForwarder(forward_event))
        if trained.state.clusters is None:
            raise InputError(f"{folder.path if folder else 'the run'} has no clusters: its last epoch is not finished.")
        model = model_of(r, trained, inputs, network)
        fitted = Fitted(r, model, _assigned(r, trained, inputs, model, images), trained.records)
        if folder and writes:
            save_model(r, model, folder, images.source)
            write_assignments(fitted.assigned, images, folder)
    return fitted


def with_backbone(r: Recipe, images: ImageSet, module: nn.Module | None = None) -> tuple[Recipe, Backbone | None]:
    """The recipe with the width of the rows that its heads are given, and its pretrained backbone if it has one.

    Raises:
        InputError: the backbone is not available; or the images are not such as the recipe is for.
    """
    shape = images.images.shape
    if len(shape) != (2 if r.takes_features else 4):
        raise InputError(
            f"the recipe is for {'rows of features' if r.takes_features else 'images'}, the data are {list(shape)}."
        )
    if not r.takes_features and not r.data.size:
        r = recipe.check({**r.model_dump(), "data": {**r.data.model_dump(), "size": shape[-1]}})
    backbone, width = pretrained.backbone_of(r, module), shape[1] if r.takes_features else None
    if backbone and r.frozen:
        width = features_out(backbone.network, *shape[1:])
    if width == r.data.features:
        return r, backbone
    return recipe.check({**r.model_dump(), "data": {**r.data.model_dump(), "features": width}}), backbone


def model_of(r: Recipe, trained: Trained, inputs: Inputs, backbone: Backbone | None) -> Model:
    """What the run leaves behind: with a frozen backbone all of it, from pixels on."""
    assert trained.state.clusters is not None
    network = trained.framework.representation
    if backbone and r.frozen:
        network = pretrained.on_backbone(backbone.network, network, *inputs.normalisation)
    return Model(
        network,
        trained.state.clusters.centroids,
        *(inputs.normalisation if r.takes_features else inputs.pixels),
        trained.device,
        takes_features=r.takes_features,
        backbone_config=backbone.backbone_config if backbone else None,
    )


def _assigned(r: Recipe, trained: Trained, inputs: Inputs, model: Model, images: ImageSet) -> Assigned:
    """Where the images go; by what a frozen backbone gave for them already."""
    if not r.frozen:
        return model.assign(images.images)
    normalise = experiment.views_of(r, r.instance, *inputs.normalisation).normalise
    features = extract(
        trained.framework.representation, inputs.images.images, normalise, trained.device, at_a_time=model.at_a_time
    )
    return place(features, model.centroids)


@contextmanager
def _in_a_file(images: ImageSet, folder: RunFolder | None) -> Iterator[ImageSet]:
    """The same images in a file that other processes can read; for the time in the run folder, if they are in memory."""
    if isinstance(images.images, FileRows):
        yield images
        return
    assert folder is not None
    try:
        with open(folder.pixels, "wb") as file:
            for part in parts(images.images, AT_A_TIME):
                file.write(part.contiguous().numpy().data)
        yield replace(images, images=FileRows(folder.pixels, images.images.shape, images.images.dtype))
    finally:
        folder.pixels.unlink(missing_ok=True)


def check_recipe(folder: RunFolder, r: Recipe, before_fitted: bool = False) -> None:
    """Refuses to go on with a run of another recipe.

    Args:
        folder: of the run.
        r: the recipe asked for.
        before_fitted: it is not yet `fitted_to` the images, so that numbers which that makes smaller may be larger in it.

    Raises:
        InputError: they differ; the message has the lines that do.
    """
    there = recipe.load(str(folder.recipe))
    if (_as_small_as(r, there) if before_fitted else r) != there:
        differ = differences(there.to_yaml(), r.to_yaml())
        raise InputError(f"{folder.path} holds a run of another recipe; omit what changes it or give another --out:\n{differ}")


def _as_small_as(r: Recipe, fitted: Recipe) -> Recipe:
    """The recipe with those numbers of a fitted one that `fitted_to` may have made smaller."""

    def smaller(mine: Any, its: Any, *keys: str) -> Any:
        known = [key for key in keys if hasattr(mine, key) and hasattr(its, key)]
        return mine.model_copy(update={key: min(getattr(mine, key), getattr(its, key)) for key in known})

    parts: dict[str, Any] = {
        "train": smaller(r.train, fitted.train, "batch_size"),
        "feature_views": smaller(r.feature_views, fitted.feature_views, "neighbours", "k1", "k2"),
    }
    if r.takes_features:
        for name in ("instance", "group"):
            mine, its = getattr(r, name), getattr(fitted, name)
            near = smaller(mine.neighbourhood, its.neighbourhood, "k", "k1", "k2")
            parts[name] = mine.model_copy(update={"neighbourhood": near})
    return r.model_copy(update=parts)


def _check_images(folder: RunFolder, fingerprint: str) -> None:
    """Refuses to go on from a checkpoint that is broken or of other images, before any file of the run is replaced."""
    if found := checkpoint.checkpoints(folder.checkpoints):
        checkpoint.read(found[-1], fingerprint)


@contextmanager
def _reporting_saved_progress(folder: RunFolder) -> Iterator[None]:
    """A fault of the disk becomes `NotWritten`, which tells what a resumed run would go on from."""
    try:
        yield
    except NotWritten:
        raise
    except OSError as fault:
        what = f"{fault.filename or folder.path} cannot be written: {fault.strerror or fault}"
        raise NotWritten(f"{what}; {saved_progress(folder)}. Fix it and run again with --resume.") from fault


def saved_progress(folder: RunFolder) -> str:
    """What a resumed run would go on from, in words."""
    found = checkpoint.checkpoints(folder.checkpoints)
    return f"all up to {found[-1].name} is safe" if found else "there is no checkpoint yet"
