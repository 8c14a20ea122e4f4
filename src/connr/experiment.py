"""Builds the parts of a recipe: method, views, plan of the training, device, loggers."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn

from connr import networks
from connr.data.neighbouring import nearest_rows
from connr.engine import Callback, Plan
from connr.engine.logging_callback import LoggingCallback
from connr.errors import InputError
from connr.losses import normalize_rows
from connr.methods import Method, Optimizer, Phase, Setup, View
from connr.neighbours import contextual, local
from connr.networks.pretrained import Pretrained
from connr.randomness import seeded_initialisation
from connr.recipe import Recipe
from connr.registry import METHODS
from connr.views import LAYOUT, Augment, FeatureViews, Views

WEAK = (
    "crop_scale",
    "crop_ratio",
    "flip",
    "rotate",
    "shift",
    "zoom",
    "shear",
)  # the settings of `augment` that a weak view has

LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": lambda path: TensorBoardLogger(path, name=""),
    "csv": lambda path: CSVLogger(path, name="", flush_logs_every_n_steps=1),
}


def log_for(r: Recipe, folder: Path | None) -> Callback:
    """The logging callback of a recipe, writing to `folder`; each start of a run gets a new version there.

    Raises:
        InputError: there is no folder to write into, or the package that writes it is not installed.
    """
    if r.log == "none":
        return Callback()
    if folder is None:
        raise InputError(f"log={r.log} needs a run folder to write into; give one as out, or leave out log.")
    try:
        return LoggingCallback(LOGGERS[r.log](folder))
    except ModuleNotFoundError as fault:
        raise InputError(f'log={r.log} needs a package that is not installed; pip install "connr[track]".') from fault


def build(r: Recipe, encoder: nn.Module | None = None, n_images: int = 1) -> Method:
    """The method of a recipe; its initial weights depend only on the seed.

    The weights are in double precision where `train.precision` is `64-true`, equal to those of single precision at the start.

    Args:
        r: the recipe, complete; on a frozen backbone the method's encoder is the identity, on its features.
        encoder: a pretrained network that is fine-tuned.
        n_images: of the training set, for memories by image index; any number if nothing is trained.
    """
    kind: type[Method] = METHODS[r.method.name]
    with seeded_initialisation(r.seed):
        if r.takes_features or r.frozen:
            shape: tuple[int, ...] = (r.data.features or 0,)
            encoder = nn.Identity() if r.frozen else r.backbone.build(shape[0])
        else:
            channels = kind.input_channels(r.method, r.data.channels)
            shape = (channels, r.data.size, r.data.size)
            encoder = encoder or r.backbone.build(channels)
        setup = Setup(encoder, networks.features_out(encoder, *shape), r.clusters or 2, n_images)
        method: Method = kind(r.method, setup)
        method = method.to(memory_format=LAYOUT)
        return method.double() if r.train.precision == "64-true" else method


def phases_of(r: Recipe) -> Sequence[Phase]:
    """The phases of a recipe's method, built on the meta device."""
    with torch.device("meta"):
        method: Method = METHODS[r.method.name](r.method, Setup(nn.Identity(), 8, r.clusters or 2, 1))
    return method.phases()


def plan_for(r: Recipe, mean: list[float], std: list[float], clustered: int | None = None) -> Plan:
    """The plan of a recipe for the training loop.

    Args:
        r: the recipe, with `clusters`.
        r: the recipe.
        mean: of the rows, per channel or column.
        std: of the rows, per channel or column.
        clustered: the assigner is fitted on the first `clustered` images; None for all.
    """
    assert r.clusters is not None  # checked by `connr.runs.fit`
    t = r.train
    first = r.backbone.first_layers if isinstance(r.backbone, Pretrained) and not r.frozen else None
    return Plan(
        epochs=t.epochs,
        batch_size=t.batch_size,
        optimizer=Optimizer(t.optimizer, t.base_lr, t.momentum, t.weight_decay),
        reference_batch=t.reference_batch,
        warmup_epochs=t.warmup * t.epochs,
        cosine_reaches_zero=t.cosine_reaches_zero,
        views=partial(views_of, r, mean, std),
        depths=None if first is None else partial(networks.parameters_by_depth, first=first),
        n_clusters=r.clusters,
        restarts=r.kmeans.restarts,
        max_iterations=r.kmeans.max_iterations,
        reseed_empty=r.kmeans.reseed_empty,
        evaluate_every=t.evaluate_every,
        seed=r.seed,
        clustered=clustered,
    )


def views_of(r: Recipe, mean: list[float], std: list[float], view: View = View()) -> Views:  # noqa: B008 - immutable
    """The object that computes a view: of images, of rows of features, or of cached views of a frozen backbone."""
    if r.takes_features or r.frozen:
        cached = r.backbone.views if isinstance(r.backbone, Pretrained) else 0
        strengths = r.feature_views.model_dump(include={"noise", "dropout", "mix", "neighbours"})
        return FeatureViews(mean, std, views=cached, **strengths)
    return images_augmented(r, mean, std, view)


def images_augmented(r: Recipe, mean: list[float], std: list[float], view: View = View()) -> Augment:  # noqa: B008
    """The object that computes a view of images, with the recipe's settings and the changes of the view."""
    section = {"weak": r.weak, "strong": r.strong}.get(view.kind) or r.augment
    weak_by_default = view.kind == "weak" and r.weak is None
    strengths = section.model_dump(include=set(WEAK)) if weak_by_default else section.model_dump(exclude={"name"})
    augment = Augment(mean, std, photograph=r.data.photograph, **{**strengths, **view.changes})
    if r.train.compile:
        augment.compile()
    return augment


def neighbours_of(r: Recipe) -> Callable[[Tensor], Tensor]:
    """A function from normalised rows (n d) to indices (n k) of neighbours for views, without the row itself."""
    s = r.feature_views
    if s.neighbourhood == "euclidean":
        return partial(nearest_rows, k=s.neighbours)
    if s.neighbourhood == "local":
        return lambda rows: local(normalize_rows(rows), k=s.neighbours + 1)[:, 1:]
    return lambda rows: contextual(normalize_rows(rows), k=s.neighbours + 1, k1=s.k1, k2=s.k2, alpha=s.alpha)[:, 1:]


def device_for(device: str, communicator: int = 1) -> str:
    """Resolves `device` to `cpu`, `cuda` or `mps`; `auto` uses GPUs if there is one for each rank.

    Raises:
        InputError: this machine has no such device, or too few of them for the ranks.
    """
    known = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not known.get(device):
        there = ", ".join(name for name, present in known.items() if present)
        raise InputError(f"device {device!r} is not available; this machine has: {there}.")
    if communicator < 1:
        raise InputError(f"devices={communicator} should be at least 1.")
    enough = {"cpu": True, "cuda": communicator <= torch.cuda.device_count(), "mps": communicator == 1}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if known[name] and enough[name])
    if not enough[device]:
        there = f"{torch.cuda.device_count()} GPUs" if device == "cuda" else "one GPU"
        raise InputError(f"devices={communicator} is more than this machine has: {there}.")
    return device


def fabric_for(r: Recipe, device: str, rank: int = 0) -> Fabric:
    """Lightning Fabric for one rank, with the recipe's precision; processes communicate through `connr.distributed`.

    Raises:
        InputError: this machine has no such device, or the device has no double precision.
    """
    kind = device_for(device)
    if kind == "mps" and r.train.precision == "64-true":
        raise InputError("train.precision=64-true: the device mps has no double precision; use the device cpu.")
    return Fabric(accelerator=kind, devices=[rank] if kind == "cuda" else 1, precision=r.train.precision)
