"""Recipes on pretrained backbones: which one, what it asks of the images, and how it and its heads become one network."""

from copy import deepcopy
from typing import Any

from torch import nn

from connr import experiment, networks, recipe
from connr.engine.extraction import input_dtype
from connr.errors import InputError
from connr.networks import Backbone
from connr.randomness import seeded_initialisation
from connr.recipe import Pretrained, Recipe
from connr.views import LAYOUT


def chosen(name: str | Recipe, settings: list[str], module: nn.Module | None = None, **changes: Any) -> Recipe:
    """The recipe to run: as `connr.recipe.load`, with what a pretrained backbone asks of its images.

    Args:
        module: a network of the user's own, instead of that of `backbone.model`.

    Raises:
        InputError: a RecipeError; or there is no such backbone, or none for a module to take the place of.
    """
    r = recipe.load(name, settings, **changes)
    if module is None and name in recipe.names() and not any(each.strip().startswith("backbone") for each in settings):
        r = _prefer_cached(r, settings, **changes)
    if module is None:
        return resolve_input(r)
    if not isinstance(r.backbone, Pretrained):
        raise InputError("a backbone of your own needs a recipe with a pretrained one, such as recipe='pretrained'.")
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
    """Which backbone a recipe came to, or what it would have liked to find and where; nothing to say of most recipes."""
    if isinstance(r.backbone, Pretrained):
        weights = r.backbone.weights or networks.prefer_if_cached(r.backbone.model) or "to be downloaded"
        return f"Backbone: {r.backbone.model}, {'frozen' if r.frozen else 'trained further'}; weights: {weights}."
    if not r.prefer_if_cached:
        return ""
    return (
        f"No pretrained backbone is at hand ({', '.join(r.prefer_if_cached.models)}; in the caches of torch and the Hugging Face Hub), "
        "so a small network is trained from scratch: expect clusters of colour and shape more than of meaning. Better ones: "
        "--recipe pretrained, which downloads one, or takes it with --set backbone.model=... --set backbone.weights=FILE."
    )


def resolve_input(r: Recipe) -> Recipe:
    """The recipe with the size, channels and interpolation that its pretrained backbone wants; a size it gives itself stays.

    Raises:
        InputError: there is no such backbone.
    """
    if not isinstance(r.backbone, Pretrained) or r.backbone.model.startswith("module:"):
        return r
    wanted = networks.expects(r.backbone.model)
    size = {"size": r.data.size or wanted.size, "channels": wanted.channels, "interpolation": wanted.interpolation}
    return recipe.check({**r.model_dump(), "data": {**r.data.model_dump(), **size}}, f"for {r.backbone.model}")


def backbone_of(r: Recipe, module: nn.Module | None = None) -> Backbone | None:
    """The pretrained backbone of a recipe with its weights; None where it has none.

    Args:
        module: the user's own.

    Raises:
        InputError: it is not available, or does not take images of the recipe's size.
    """
    if not isinstance(r.backbone, Pretrained):
        return None
    if module is not None:
        found = networks.own(module, r.data.size, r.data.channels)
    else:
        with seeded_initialisation(r.seed):
            found = networks.open_backbone(r.backbone.model, r.backbone.weights, r.data.size, experiment.from_scratch)
    networks.features_out(found.network, r.data.channels, r.data.size, r.data.size)
    return found


def build_inference_network(r: Recipe, backbone_config: dict[str, Any] | None, module: nn.Module | None = None) -> nn.Module:
    """What a finished run's weights fit into: all that there is between its images and its features.

    Args:
        made: of its pretrained backbone, `Backbone.made`.
        module: the user's own, if it was.

    Raises:
        InputError: the backbone was a module of the user's own.
    """
    network = (
        (deepcopy(module) if module else networks.rebuild(backbone_config, experiment.from_scratch))
        if backbone_config
        else None
    )
    if r.frozen and network is not None:
        heads, width = experiment.build(r).representation, r.data.features or 0
        return on_backbone(network, heads, [0.0] * width, [1.0] * width)
    return experiment.build(r, network).representation


def on_backbone(network: nn.Module, heads: nn.Module, mean: list[float], std: list[float]) -> nn.Sequential:
    """A frozen backbone, what standardises its features, and the heads that were trained on those, in the heads' precision."""
    standardise = networks.Standardise(mean, std).to(input_dtype(heads))
    return nn.Sequential(network, standardise, heads).to(memory_format=LAYOUT)
