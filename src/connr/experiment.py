"""Recipe -> parts. The only place that maps names to parts: a new part is one row of a table here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn

from connr import algorithm, networks, recipe
from connr.clustering.kmeans import Clusters
from connr.data.neighbouring import nearest_rows
from connr.engine import Callback, Plan, Stage
from connr.engine.logging_callback import LoggingCallback
from connr.errors import InputError
from connr.frameworks import BYOL, Framework, MoCo, SimSiam
from connr.frameworks.framework import on_sphere
from connr.neighbours import contextual, itself, local
from connr.networks.heads import mlp, simsiam_projector
from connr.randomness import seeded_initialisation
from connr.recipe import Pretrained, Recipe
from connr.schedules import linear_fraction
from connr.views import LAYOUT, Augment, FeatureViews, Views

BACKBONES: dict[type, Callable[[Any, int], nn.Module]] = {  # given the channels of the images, or the width of the rows
    recipe.ResNet: lambda s, channels: networks.resnet(s.name, channels, s.small_images),
    recipe.SmallResNet: lambda s, channels: networks.small_resnet(channels, s.width, s.stages, s.blocks, s.stem_stride),
    recipe.MLP: lambda s, width: networks.mlp_encoder(width, s.widths),
}


def from_scratch(section: Any, channels: int) -> nn.Module:
    """A network of connr's own, its weights drawn from torch's generator."""
    return BACKBONES[type(section)](section, channels)


FRAMEWORKS: dict[type, Callable[[Any, nn.Module, int], Framework]] = {
    recipe.BYOL: lambda s, encoder, width: BYOL(
        encoder, mlp(width, s.hidden, s.out), mlp(s.out, s.hidden, s.out, s.predictor_std)
    ),
    recipe.SimSiam: lambda s, encoder, width: SimSiam(
        encoder, simsiam_projector(width, s.hidden, s.out, s.layers), mlp(s.out, s.bottleneck, s.out)
    ),
    recipe.MoCo: lambda s, encoder, width: MoCo(
        encoder, mlp(width, s.hidden, s.out, batch_norm=False), s.out, s.queue, s.temperature
    ),
}

NEIGHBOURHOODS: dict[type, Callable[[Any], algorithm.Neighbourhood]] = {
    recipe.Itself: lambda s: itself,
    recipe.Local: lambda s: partial(local, k=s.k),
    recipe.Contextual: lambda s: partial(contextual, k=s.k, k1=s.k1, k2=s.k2, alpha=s.alpha, layers=s.layers),
}


def _everyone(section: recipe.AllAnchors, r: Recipe, epoch: int, clusters: Clusters | None) -> algorithm.AnchorFilter:
    return algorithm.all_anchors


def _off_boundary(section: recipe.Boundary, r: Recipe, epoch: int, clusters: Clusters | None) -> algorithm.AnchorFilter:
    assert clusters is not None  # the loop has clustered: Stage.needs_clusters
    if len(clusters.centroids) == 1:  # and no boundary
        return algorithm.all_anchors
    fraction = linear_fraction(epoch, r.t0, section.until * r.train.epochs, section.fraction, section.final)
    return partial(
        algorithm.off_boundary,
        centroids=clusters.centroids,
        assignments=clusters.assignments,
        fraction=fraction,
        inclusive_threshold=section.inclusive_threshold,
    )


ANCHORS: dict[type, Callable[[Any, Recipe, int, Clusters | None], algorithm.AnchorFilter]] = {
    recipe.AllAnchors: _everyone,
    recipe.Boundary: _off_boundary,
}

LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": lambda path: TensorBoardLogger(path, name=""),
    "csv": lambda path: CSVLogger(path, name="", flush_logs_every_n_steps=1),
}


def log_for(r: Recipe, folder: Path | None) -> Callback:
    """Writes the log that the recipe asks for into `folder`; every start of a run gets a version of its own there.

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


def build(r: Recipe, encoder: nn.Module | None = None) -> Framework:
    """The network of a recipe, with weights that depend on its seed alone; of a frozen backbone the heads, on its features.

    The weights are in double precision where `train.precision` is `64-true`, equal to those of single precision at the start.

    Args:
        encoder: a pretrained one that is trained further, with its weights.
    """
    with seeded_initialisation(r.seed):
        if r.takes_features or r.frozen:
            shape: tuple[int, ...] = (r.data.features or 0,)
            encoder = nn.Identity() if r.frozen else from_scratch(r.backbone, shape[0])
        else:
            shape = (r.data.channels, r.data.size, r.data.size)
            encoder = encoder or from_scratch(r.backbone, r.data.channels)
        width = networks.features_out(encoder, *shape)
        framework = FRAMEWORKS[type(r.framework)](r.framework, encoder, width).to(memory_format=LAYOUT)
        return framework.double() if r.train.precision == "64-true" else framework


def plan_for(r: Recipe, mean: list[float], std: list[float]) -> Plan:
    """The numbers of a recipe as the loop takes them."""
    assert r.clusters is not None  # checked by `connr.runs.fit`
    return Plan(
        epochs=r.train.epochs,
        t0=r.t0,
        stages=(_stage("instance", r.instance, r, mean, std), _stage("group", r.group, r, mean, std)),
        batch_size=r.train.batch_size,
        base_lr=r.train.base_lr,
        cosine_reaches_zero=r.train.cosine_reaches_zero,
        warmup_epochs=r.train.warmup * r.train.epochs,
        momenta=(r.framework.target_momentum, r.framework.final_momentum),
        n_clusters=r.clusters,
        restarts=r.kmeans.restarts,
        max_iterations=r.kmeans.max_iterations,
        reseed_empty=r.kmeans.reseed_empty,
        evaluate_every=r.train.evaluate_every,
        seed=r.seed,
    )


def _stage(name: str, section: recipe.Stage, r: Recipe, mean: list[float], std: list[float]) -> Stage:
    neighbourhood = NEIGHBOURHOODS[type(section.neighbourhood)](section.neighbourhood)

    def sockets(epoch: int, clusters: Clusters | None) -> algorithm.Sockets:
        anchors = ANCHORS[type(section.anchors)](section.anchors, r, epoch, clusters)
        return algorithm.Sockets(neighbourhood, anchors, mean_over_all=r.train.loss_mean == "all")

    return Stage(
        name=name,
        sockets=sockets,
        needs_clusters=isinstance(section.anchors, recipe.Boundary),
        views=views_of(r, section, mean, std),
        lr_factors=section.lr_factors.model_dump(),
        memory=section.memory,
        loss_scale=section.loss_scale,
    )


def views_of(r: Recipe, section: recipe.Stage, mean: list[float], std: list[float]) -> Views:
    """The views of a stage: of images, of rows of features, or of the cached views of a frozen backbone."""
    if r.takes_features or r.frozen:
        cached = r.backbone.views if isinstance(r.backbone, Pretrained) else 0
        strengths = r.feature_views.model_dump(include={"noise", "dropout", "mix", "neighbours"})
        return FeatureViews(mean, std, views=cached, **strengths)
    return images_augmented(r, mean, std, section.crop_scale)


def neighbours_of(r: Recipe) -> Callable[[Tensor], Tensor]:
    """Normalised rows (n d) -> the rows (n k) that a view of each may move towards, none the row itself."""
    s = r.feature_views
    if s.neighbourhood == "euclidean":
        return partial(nearest_rows, k=s.neighbours)
    if s.neighbourhood == "local":
        return lambda rows: local(on_sphere(rows), k=s.neighbours + 1)[:, 1:]
    return lambda rows: contextual(on_sphere(rows), k=s.neighbours + 1, k1=s.k1, k2=s.k2, alpha=s.alpha)[:, 1:]


def images_augmented(r: Recipe, mean: list[float], std: list[float], crop_scale: tuple[float, float] | None = None) -> Augment:
    """The views of images; `crop_scale` instead of the recipe's."""
    strengths = r.augment.model_dump(exclude={"name"})
    if crop_scale is not None:
        strengths["crop_scale"] = crop_scale
    augment = Augment(mean, std, photograph=r.data.photograph, **strengths)
    if r.train.compile:
        augment.compile()
    return augment


def optimizer_for(r: Recipe, framework: Framework) -> torch.optim.SGD:
    """SGD with a parameter group per role, so that each stage can give it its own lr factor; a pretrained encoder by depth."""
    groups: list[dict[str, Any]] = []
    for role, parameters in framework.parameter_groups().items():
        if role == "encoder" and isinstance(r.backbone, Pretrained) and not r.frozen:
            depths = networks.parameters_by_depth(framework.encoder, r.backbone.first_layers)
            groups += [{"role": role, "factor": factor, "params": block} for factor, block in depths]
            own = {id(parameter) for _, block in depths for parameter in block}
            parameters = [parameter for parameter in parameters if id(parameter) not in own]
        groups.append({"role": role, "factor": 1.0, "params": parameters})
    return torch.optim.SGD(groups, lr=r.train.base_lr, momentum=r.train.momentum, weight_decay=r.train.weight_decay)


def device_for(device: str, communicator: int = 1) -> str:
    """`cpu`, `cuda` or `mps`: what `device` comes to on this machine; `auto` is a GPU for each rank where there are so many.

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
    """One rank's `device_for`, at the recipe's precision; what ranks exchange is `connr.distributed`'.

    Raises:
        InputError: this machine has no such device, or the device has no double precision.
    """
    kind = device_for(device)
    if kind == "mps" and r.train.precision == "64-true":
        raise InputError("train.precision=64-true: the device mps has no double precision; use the device cpu.")
    return Fabric(accelerator=kind, devices=[rank] if kind == "cuda" else 1, precision=r.train.precision)
