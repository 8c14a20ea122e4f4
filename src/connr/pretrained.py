"""Recipes with pretrained backbones: choice of the backbone, input format, and the complete inference network."""

from copy import deepcopy
from typing import Any

from torch import nn

from connr import experiment, networks, recipe
from connr.clustering.assigners import Assigner
from connr.engine.extraction import input_dtype
from connr.errors import InputError
from connr.networks import Backbone
from connr.networks.pretrained import Pretrained
from connr.randomness import seeded_initialisation
from connr.recipe import Recipe
from connr.views import LAYOUT


def chosen(name: str | Recipe, settings: list[str], module: nn.Module | None = None, **changes: Any) -> Recipe:
    """The recipe to run: as `connr.recipe.load`, with the input format of its pretrained backbone.

    Args:
        module: a user's network, instead of that of `backbone.model`.

    Raises:
        InputError: a RecipeError; or there is no such backbone, or none for a module to take the place of.
    """
    r = recipe.load(name, settings, **changes)
    if module is None and name in recipe.names() and not any(each.strip().startswith("backbone") for each in settings):
        r = _prefer_cached(r, settings, **changes)
    if module is None:
        return resolve_input(r)
    if not isinstance(r.backbone, Pretrained):
        raise InputError("a custom backbone needs a recipe with a pretrained one, such as recipe='pretrained'.")
    own = f"module:{type(module).__module__}.{type(module).__qualname__}"
    size = r.data.size or getattr(module, "size", 224)
    return recipe.load(r, [f"backbone.model={own}", f"data.size={size}"])


def _prefer_cached(r: Recipe, settings: list[str], **changes: Any) -> Recipe:
    models = r.prefer_if_cached.models if r.prefer_if_cached else ()
    found = next((model for model in models if networks.prefer_if_cached(model)), None)
    if not r.prefer_if_cached or not found:
        return r
    return recipe.load(r.prefer_if_cached.recipe, [f"backbone.model={found}", *settings], **changes)


def describe_backbone(r: Recipe) -> str:
    """A message about the pretrained backbone in use or the missing one; empty for most recipes."""
    if isinstance(r.backbone, Pretrained):
        weights = r.backbone.weights or networks.prefer_if_cached(r.backbone.model) or "to be downloaded"
        return f"Backbone: {r.backbone.model}, {'frozen' if r.frozen else 'trained further'}; weights: {weights}."
    if not r.prefer_if_cached:
        return ""
    return (
        f"No pretrained backbone is cached ({', '.join(r.prefer_if_cached.models)}; in the caches of torch and the Hugging "
        "Face Hub), "
        "so a small network is trained from scratch: expect clusters of colour and shape more than of meaning. Better ones: "
        "--recipe pretrained, which downloads one, or takes it with --set backbone.model=... --set backbone.weights=FILE."
    )


def resolve_input(r: Recipe) -> Recipe:
    """The recipe with the size, channels and interpolation of its pretrained backbone; a size in the recipe has priority.

    Raises:
        InputError: there is no such backbone.
    """
    if not isinstance(r.backbone, Pretrained) or r.backbone.model.startswith("module:"):
        return r
    wanted = networks.expects(r.backbone.model)
    size = {"size": r.data.size or wanted.size, "channels": wanted.channels, "interpolation": wanted.interpolation}
    return recipe.check({**r.model_dump(), "data": {**r.data.model_dump(), **size}}, f"for {r.backbone.model}")


def backbone_of(r: Recipe, module: nn.Module | None = None) -> Backbone | None:
    """The pretrained backbone of a recipe with its weights; None if it has none.

    Args:
        module: a user's module.

    Raises:
        InputError: it is not available, or does not take images of the recipe's size.
    """
    if not isinstance(r.backbone, Pretrained):
        return None
    if module is not None:
        found = networks.own(module, r.data.size, r.data.channels)
    else:
        with seeded_initialisation(r.seed):
            found = networks.open_backbone(r.backbone.model, r.backbone.weights, r.data.size)
    networks.features_out(found.network, r.data.channels, r.data.size, r.data.size)
    return found


def build_inference_network(
    r: Recipe, backbone_config: dict[str, Any] | None, module: nn.Module | None = None
) -> tuple[nn.Module, Assigner]:
    """The network from images to features, and the assigner, of a finished run, without their weights.

    Args:
        r: the recipe of the run, complete.
        backbone_config: of its pretrained backbone, `Backbone.backbone_config`.
        module: the user's module of the fit, if there was one.

    Raises:
        InputError: the backbone was a user's module.
    """
    network = (deepcopy(module) if module else networks.rebuild(backbone_config)) if backbone_config else None
    if r.frozen and network is not None:
        method, width = experiment.build(r), r.data.features or 0
        return on_backbone(network, method.features(), [0.0] * width, [1.0] * width), method.assigner()
    method = experiment.build(r, network)
    return method.features(), method.assigner()


def on_backbone(network: nn.Module, heads: nn.Module, mean: list[float], std: list[float]) -> nn.Sequential:
    """A network of the frozen backbone, the standardisation of its features and the trained heads, in the heads' precision."""
    standardise = networks.Standardise(mean, std).to(input_dtype(heads))
    return nn.Sequential(network, standardise, heads).to(memory_format=LAYOUT)
