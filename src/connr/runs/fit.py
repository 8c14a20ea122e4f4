"""`fit`: trains on images by a recipe and writes the run folder."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from connr import experiment, pretrained, recipe
from connr.clustering.assigners import Assigned
from connr.data import FileRows, ImageSet, parts
from connr.data.image_set import AT_A_TIME
from connr.distributed import SINGLE_PROCESS, launch
from connr.engine import Callback, CallbackForwarder, checkpoint
from connr.engine.extraction import extract
from connr.engine.text_log import TextLog
from connr.errors import InputError, NotWritten
from connr.model import Model
from connr.networks import Backbone, features_out
from connr.recipe import Recipe
from connr.run_folder import RunFolder, differences
from connr.runs.assignments import write_assignments
from connr.runs.inputs import Inputs, build_inputs
from connr.runs.saved import save_model
from connr.runs.worker import Job, Trained, prepare, train_in_process, train_process
from connr.schema import write_skipped

NEIGHBOURHOOD_SIZES = ("k", "k1", "k2")  # keys of a method's section


@dataclass(frozen=True)
class Fitted:
    """The result of a run.

    Attributes:
        recipe: with the sizes that `clamp_to_data` changed.
        model: fitted.
        assigned: clusters of the training images.
        history: a record per epoch, as in events.jsonl.
    """

    recipe: Recipe
    model: Model
    assigned: Assigned
    history: list[dict[str, Any]] = field(default_factory=list)


def clamp_to_data(r: Recipe, n: int) -> Recipe:
    """Limits the batch size and the numbers of neighbours of a recipe to the number of images.

    Args:
        r: the recipe.
        n: number of images.

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
        smaller["method"] = _with_sizes_below(smaller["method"], n)
    return recipe.check(smaller, f"for {n} images")


def _with_sizes_below(section: dict[str, Any], n: int) -> dict[str, Any]:
    """A section in which every k, k1 and k2 is at most n."""

    def smaller(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _with_sizes_below(value, n)
        return min(n, value) if key in NEIGHBOURHOOD_SIZES and isinstance(value, int) else value

    return {key: smaller(key, value) for key, value in section.items()}


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
    """Trains, clusters all images, and writes the run folder.

    Args:
        r: the recipe; `clusters` must be set.
        images: the training images.
        folder: of the run; None keeps everything in memory.
        resume: continue from the latest checkpoint in `folder`; the number of devices may differ.
        start_from: a checkpoint of another run with the same network to continue from, for example its end of stage 1.
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: number of processes that share each batch, one per GPU. The result equals that of one process up to
            rounding errors, which training amplifies (`train.precision=64-true` shows exact equality). Ignored under
            `torchrun`, where each process calls this function.
        callback: called after every step and epoch.
        backbone: a network that replaces the recipe's pretrained one.

    Raises:
        InputError: the recipe does not fit the images, the folder is in use, the device or the log is not available.
        Diverged: the loss became NaN or infinite.
        Stopped: SIGINT or SIGTERM was received; `folder` holds a checkpoint of the last finished step.
        NotWritten: a file could not be written; earlier checkpoints are complete.
        RankLost: one of several processes ended.
    """
    if images.clustered is not None and r.clusters is not None and images.clustered < r.clusters:
        raise InputError(f"clusters={r.clusters} is more than the {images.clustered} images that are clustered.")
    r, network = with_backbone(clamp_to_data(r, len(images)), images, backbone)
    callback = callback or Callback()
    kind = experiment.device_for(device, launch.local_processes(devices))
    communicator = launch.torchrun_communicator(kind)
    writes = communicator.rank == 0
    callbacks = [experiment.log_for(r, folder.log if folder else None), TextLog(), callback] if writes else []

    def forward_event(what: str, *values: object) -> None:
        for each in callbacks:
            getattr(each, what)(*values)

    with ExitStack() as stack:
        if folder is None and devices > 1 and communicator.count == 1:
            folder = RunFolder(stack.enter_context(tempfile.TemporaryDirectory()))  # for the checkpoints of the ranks
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
        inputs = build_inputs(r, images, fingerprint, network, device_, CallbackForwarder(forward_event))
        trained_further = None if r.frozen or not network else network.network
        job = Job(r, inputs.images, inputs.normalisation, fingerprint, folder, start_from, kind, trained_further)
        if devices > 1 and communicator.count == 1:
            with _stored_in_file(inputs.images, folder) as stored:
                launch.run_in_processes(devices, kind, train_in_process, (job._replace(images=stored),), forward_event)
            trained = prepare(job, SINGLE_PROCESS)
        else:
            trained = prepare(job, communicator)
            train_process(job, trained, communicator, CallbackForwarder(forward_event))
        if trained.state.assigner is None:
            raise InputError(f"{folder.path if folder else 'the run'} has no clusters: its last epoch is not finished.")
        model = model_of(r, trained, inputs, network)
        fitted = Fitted(r, model, _assigned(r, trained, inputs, model, images), trained.records)
        if folder and writes:
            save_model(r, model, folder, images.source)
            write_assignments(fitted.assigned, images, folder)
    return fitted


def with_backbone(r: Recipe, images: ImageSet, module: nn.Module | None = None) -> tuple[Recipe, Backbone | None]:
    """Opens the recipe's pretrained backbone, if any, and sets the input size and feature width of the recipe.

    Args:
        r: the recipe.
        images: images (n c h w), or rows of features (n d), as the recipe takes them.
        module: a network that replaces the recipe's backbone.

    Raises:
        InputError: the backbone is not available, or the data has the wrong number of dimensions.
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
    """The model of a finished run; it includes the frozen backbone, so that it takes pixels."""
    assert trained.state.assigner is not None
    network = trained.method.features()
    if backbone and r.frozen:
        network = pretrained.on_backbone(backbone.network, network, *inputs.normalisation)
    return Model(
        network,
        trained.state.assigner,
        *(inputs.normalisation if r.takes_features else inputs.pixels),
        trained.device,
        takes_features=r.takes_features,
        backbone_config=backbone.backbone_config if backbone else None,
    )


def _assigned(r: Recipe, trained: Trained, inputs: Inputs, model: Model, images: ImageSet) -> Assigned:
    """Clusters of the training images; with a frozen backbone, from its cached features."""
    if not r.frozen:
        return model.assign(images.images)
    normalise = experiment.views_of(r, *inputs.normalisation).normalise
    features = extract(trained.method.features(), inputs.images.images, normalise, trained.device, at_a_time=model.at_a_time)
    return model.assigner.assign(features)


@contextmanager
def _stored_in_file(images: ImageSet, folder: RunFolder | None) -> Iterator[ImageSet]:
    """Yields the same images in a file that other processes can read; a temporary one if they are in memory."""
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
    """Checks that a run folder belongs to a recipe.

    Args:
        folder: of the run.
        r: the requested recipe.
        before_fitted: `clamp_to_data` was not applied to `r` yet: sizes that it limits may be larger in `r`.

    Raises:
        InputError: the recipes differ; the message has the lines that do.
    """
    there = recipe.load(str(folder.recipe))
    if (_with_fitted_sizes(r, there) if before_fitted else r) != there:
        differ = differences(there.to_yaml(), r.to_yaml())
        raise InputError(f"{folder.path} holds a run of another recipe; omit what changes it or give another --out:\n{differ}")


def _with_fitted_sizes(r: Recipe, fitted: Recipe) -> Recipe:
    """The recipe with the sizes of a fitted one, where `clamp_to_data` may have reduced them."""

    def smaller(mine: Any, its: Any, *keys: str) -> Any:
        known = [key for key in keys if hasattr(mine, key) and hasattr(its, key)]
        return mine.model_copy(update={key: min(getattr(mine, key), getattr(its, key)) for key in known})

    parts: dict[str, Any] = {
        "train": smaller(r.train, fitted.train, "batch_size"),
        "feature_views": smaller(r.feature_views, fitted.feature_views, "neighbours", "k1", "k2"),
    }
    if r.takes_features:
        section = _smaller_sizes(r.method.model_dump(), fitted.method.model_dump())
        parts["method"] = recipe.check({**r.model_dump(), "method": section}).method
    return r.model_copy(update=parts)


def _smaller_sizes(mine: dict[str, Any], its: dict[str, Any]) -> dict[str, Any]:
    """A section in which every k, k1 and k2 is at most that of another section."""
    found = dict(mine)
    for key, value in mine.items():
        other = its.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            found[key] = _smaller_sizes(value, other)
        elif key in NEIGHBOURHOOD_SIZES and isinstance(value, int) and isinstance(other, int):
            found[key] = min(value, other)
    return found


def _check_images(folder: RunFolder, fingerprint: str) -> None:
    """Raises InputError for a broken checkpoint or one of other images, before any file of the run is replaced."""
    if found := checkpoint.checkpoints(folder.checkpoints):
        checkpoint.read(found[-1], fingerprint)


@contextmanager
def _reporting_saved_progress(folder: RunFolder) -> Iterator[None]:
    """Turns an OSError into `NotWritten`, whose message names the latest checkpoint."""
    try:
        yield
    except NotWritten:
        raise
    except OSError as fault:
        what = f"{fault.filename or folder.path} cannot be written: {fault.strerror or fault}"
        raise NotWritten(f"{what}; {saved_progress(folder)}. Fix it and run again with --resume.") from fault


def saved_progress(folder: RunFolder) -> str:
    """A clause for messages: the checkpoint that a resumed run would continue from."""
    found = checkpoint.checkpoints(folder.checkpoints)
    return f"all up to {found[-1].name} is safe" if found else "there is no checkpoint yet"
