"""A network once more from what a model says of how it was made: its weights are in the model's own file."""

from collections.abc import Callable
from typing import Any

from torch import nn

from connr import recipe
from connr.backbones import timm, torchvision
from connr.errors import InputError

Build = Callable[[Any, int], nn.Module]  # a backbone's section of a recipe, channels -> the network, without weights


def remade(made: dict[str, Any], build: Build) -> nn.Module:
    """The network that `Backbone.made` describes, without its weights.

    Raises:
        InputError: it was a module of the user's own, which only Python can give again.
    """
    if made.get("kind") == "torchvision":
        return torchvision.remade(made)
    if made.get("kind") == "timm":
        return timm.remade(made)
    if made.get("kind") == "connr":
        return build(recipe.backbone(made["backbone"]), int(made["channels"]))
    raise InputError(
        f"the backbone was a module of your own, {made.get('name', made)!s}: in Python, ConNR.load(FOLDER, backbone=MODULE)."
    )
