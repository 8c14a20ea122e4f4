"""Recipe -> parts. The only place that maps names to parts: a new part is one row of a table here."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.loggers.logger import Logger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from torch import nn

from connr import algorithm, backbones, recipe
from connr.augment import LAYOUT, Augment, FeatureViews, Views
from connr.backbones import Backbone
from connr.errors import InputError
from connr.frameworks import BYOL, Framework, MoCo, SimSiam
from connr.frameworks.heads import mlp, simsiam_projector
from connr.kmeans import Clusters
from connr.neighbourhoods import contextual, itself, local
from connr.randomness import initialising
from connr.recipe import Pretrained, Recipe
from connr.schedules import linear_fraction
from connr.training import Listener, Plan, Stage
from connr.training.log import Log

BACKBONES: dict[type, Callable[[Any, int], nn.Module]] = {  # given the channels of the images, or the width of the rows
    recipe.ResNet: lambda s, channels: backbones.resnet(s.name, channels, s.small_images),
    recipe.SmallResNet: lambda s, channels: backbones.small_resnet(channels, s.width, s.stages, s.blocks, s.stem_stride),
    recipe.MLP: lambda s, width: backbones.mlp_encoder(width, s.widths),
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


def _everyone(section: recipe.Everyone, r: Recipe, epoch: int, clusters: Clusters | None) -> algorithm.AnchorFilter:
    return algorithm.everyone


def _off_boundary(section: recipe.Boundary, r: Recipe, epoch: int, clusters: Clusters | None) -> algorithm.AnchorFilter:
    assert clusters is not None  # the loop has clustered: Stage.needs_clusters
    if len(clusters.centroids) == 1:  # and no boundary
        return algorithm.everyone
    fraction = linear_fraction(epoch, r.t0, section.until * r.train.epochs, section.fraction, section.final)
    return partial(
        algorithm.off_boundary,
        centroids=clusters.centroids,
        assignments=clusters.assignments,
        fraction=fraction,
        sigma_too=section.sigma_too,
    )


ANCHORS: dict[type, Callable[[Any, Recipe, int, Clusters | None], algorithm.AnchorFilter]] = {
    recipe.Everyone: _everyone,
    recipe.Boundary: _off_boundary,
}

LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": lambda path: TensorBoardLogger(path, name=""),
    "csv": lambda path: CSVLogger(path, name="", flush_logs_every_n_steps=1),
}


def log_for(r: Recipe, folder: Path | None) -> Listener:
    """Writes the log that the recipe asks for into `folder`; every start of a run gets a version of its own there.

    Raises:
        InputError: there is no folder to write into, or the package that writes it is not installed.
    """
    if r.log == "none":
        return Listener()
    if folder is None:
        raise InputError(f"log={r.log} needs a run folder to write into; give one as out, or leave out log.")
    try:
        return Log(LOGGERS[r.log](folder))
    except ModuleNotFoundError as fault:
        raise InputError(f'log={r.log} needs a package that is not installed; pip install "connr[track]".') from fault


def build(r: Recipe, encoder: nn.Module | None = None) -> Framework:
    """The network of a recipe, with weights that depend on its seed alone; of a frozen backbone the heads, on its features.

    Args:
        encoder: a pretrained one that is trained further, with its weights.
    """
    with initialising(r.seed):
        if r.takes_features or r.frozen:
            shape: tuple[int, ...] = (r.data.features or 0,)
            encoder = nn.Identity() if r.frozen else from_scratch(r.backbone, shape[0])
        else:
            shape = (r.data.channels, r.data.size, r.data.size)
            encoder = encoder or from_scratch(r.backbone, r.data.channels)
        width = backbones.features_out(encoder, *shape)
        return FRAMEWORKS[type(r.framework)](r.framework, encoder, width).to(memory_format=LAYOUT)


def chosen(name: str | Recipe, settings: list[str], module: nn.Module | None = None, **changes: Any) -> Recipe:
    """The recipe to run: as `connr.recipe.load`, with what a pretrained backbone asks of its images.

    Args:
        module: a network of the user's own, instead of that of `backbone.model`.

    Raises:
        InputError: a RecipeError; or there is no such backbone, or none for a module to take the place of.
    """
    r = recipe.load(name, settings, **changes)
    if module is None and name in recipe.names() and not any(each.strip().startswith("backbone") for each in settings):
        r = _with_what_is_at_hand(r, settings, **changes)
    if module is None:
        return settled(r)
    if not isinstance(r.backbone, Pretrained):
        raise InputError("a backbone of your own needs a recipe with a pretrained one, such as recipe='pretrained'.")
    own = f"module:{type(module).__module__}.{type(module).__qualname__}"
    size = r.data.size or getattr(module, "size", 224)
    return recipe.load(r, [f"backbone.model={own}", f"data.size={size}"])


def _with_what_is_at_hand(r: Recipe, settings: list[str], **changes: Any) -> Recipe:
    models = r.at_hand.models if r.at_hand else ()
    found = next((model for model in models if backbones.at_hand(model)), None)
    if not r.at_hand or not found:
        return r
    return recipe.load(r.at_hand.recipe, [f"backbone.model={found}", *settings], **changes)


def what_is_at_hand(r: Recipe) -> str:
    """Which backbone a recipe came to, or what it would have liked to find and where; nothing to say of most recipes."""
    if isinstance(r.backbone, Pretrained):
        weights = r.backbone.weights or backbones.at_hand(r.backbone.model) or "to be downloaded"
        return f"Backbone: {r.backbone.model}, {'frozen' if r.frozen else 'trained further'}; weights: {weights}."
    if not r.at_hand:
        return ""
    return (
        f"No pretrained backbone is at hand ({', '.join(r.at_hand.models)}; in the caches of torch and the Hugging Face Hub), "
        "so a small network is trained from scratch: expect clusters of colour and shape more than of meaning. Better ones: "
        "--recipe pretrained, which downloads one, or takes it with --set backbone.model=... --set backbone.weights=FILE."
    )


def settled(r: Recipe) -> Recipe:
    """The recipe with the size, channels and interpolation that its pretrained backbone wants; a size it gives itself stays.

    Raises:
        InputError: there is no such backbone.
    """
    if not isinstance(r.backbone, Pretrained) or r.backbone.model.startswith("module:"):
        return r
    wanted = backbones.expects(r.backbone.model)
    size = {"size": r.data.size or wanted.size, "channels": wanted.channels, "interpolation": wanted.interpolation}
    return recipe.check({**r.model_dump(), "data": {**r.data.model_dump(), **size}}, f"for {r.backbone.model}")


def backbone_of(r: Recipe, module: nn.Module | None = None) -> Backbone | None:
    """The pretrained backbone of a recipe with its weights; None where it has none.

    Args:
        module: the user's own.

    Raises:
        InputError: it is not to be had, or does not take images of the recipe's size.
    """
    if not isinstance(r.backbone, Pretrained):
        return None
    if module is not None:
        found = backbones.own(module, r.data.size, r.data.channels)
    else:
        with initialising(r.seed):
            found = backbones.open_backbone(r.backbone.model, r.backbone.weights, r.data.size, from_scratch)
    backbones.features_out(found.network, r.data.channels, r.data.size, r.data.size)
    return found


def whole(r: Recipe, made: dict[str, Any] | None, module: nn.Module | None = None) -> nn.Module:
    """What a finished run's weights fit into: all that there is between its images and its features.

    Args:
        made: of its pretrained backbone, `Backbone.made`.
        module: the user's own, if it was.

    Raises:
        InputError: the backbone was a module of the user's own.
    """
    network = (deepcopy(module) if module else backbones.remade(made, from_scratch)) if made else None
    if r.frozen and network is not None:
        return on_backbone(network, build(r).representation, [0.0] * (r.data.features or 0), [1.0] * (r.data.features or 0))
    return build(r, network).representation


def on_backbone(network: nn.Module, heads: nn.Module, mean: list[float], std: list[float]) -> nn.Sequential:
    """A frozen backbone, what standardises its features, and the heads that were trained on those."""
    return nn.Sequential(network, backbones.Standardise(mean, std), heads).to(memory_format=LAYOUT)


def plan_for(r: Recipe, mean: list[float], std: list[float]) -> Plan:
    """The numbers of a recipe as the loop takes them."""
    assert r.clusters is not None  # checked by `connr.run.fit`
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
    )


def views_of(r: Recipe, section: recipe.Stage, mean: list[float], std: list[float]) -> Views:
    """The views of a stage: of images, of rows of features, or of the cached views of a frozen backbone."""
    if r.takes_features or r.frozen:
        cached = r.backbone.views if isinstance(r.backbone, Pretrained) else 0
        return FeatureViews(mean, std, views=cached, **r.feature_views.model_dump(exclude={"scale"}))
    return images_augmented(r, mean, std, section.crop_scale)


def images_augmented(r: Recipe, mean: list[float], std: list[float], crop_scale: tuple[float, float] | None = None) -> Augment:
    """The views of images; `crop_scale` instead of the recipe's."""
    strengths = r.augment.model_dump(exclude={"name"})
    if crop_scale is not None:
        strengths["crop_scale"] = crop_scale
    augment = Augment(mean, std, **strengths)
    if r.train.compile:
        augment.compile()
    return augment


def optimizer_for(r: Recipe, framework: Framework) -> torch.optim.SGD:
    """SGD with a parameter group per role, so that each stage can give it its own lr factor; a pretrained encoder by depth."""
    groups: list[dict[str, Any]] = []
    for role, parameters in framework.parameter_groups().items():
        if role == "encoder" and isinstance(r.backbone, Pretrained) and not r.frozen:
            depths = backbones.by_depth(framework.encoder, r.backbone.first_layers)
            groups += [{"role": role, "factor": factor, "params": block} for factor, block in depths]
            own = {id(parameter) for _, block in depths for parameter in block}
            parameters = [parameter for parameter in parameters if id(parameter) not in own]
        groups.append({"role": role, "factor": 1.0, "params": parameters})
    return torch.optim.SGD(groups, lr=r.train.base_lr, momentum=r.train.momentum, weight_decay=r.train.weight_decay)


def device_for(device: str, ranks: int = 1) -> str:
    """`cpu`, `cuda` or `mps`: what `device` comes to on this machine; `auto` is a GPU for each rank where there are so many.

    Raises:
        InputError: this machine has no such device, or too few of them for the ranks.
    """
    known = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not known.get(device):
        there = ", ".join(name for name, present in known.items() if present)
        raise InputError(f"device {device!r} is not to be had; this machine has: {there}.")
    if ranks < 1:
        raise InputError(f"devices={ranks} should be at least 1.")
    enough = {"cpu": True, "cuda": ranks <= torch.cuda.device_count(), "mps": ranks == 1}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if known[name] and enough[name])
    if not enough[device]:
        there = f"{torch.cuda.device_count()} GPUs" if device == "cuda" else "one GPU"
        raise InputError(f"devices={ranks} is more than this machine has: {there}.")
    return device


def fabric_for(r: Recipe, device: str, rank: int = 0) -> Fabric:
    """One rank's `device_for`, at the recipe's precision; what ranks exchange is `connr.ranks`'.

    Raises:
        InputError: this machine has no such device.
    """
    kind = device_for(device)
    return Fabric(accelerator=kind, devices=[rank] if kind == "cuda" else 1, precision=r.train.precision)
