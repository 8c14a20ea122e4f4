"""A network once more from what a model says of how it was made: its weights are in the model's own file."""

from collections.abc import Callable
from typing import Any

from torch import nn

from connr import recipe
from connr.backbones import timm, torchvision
from connr.errors import InputError

Build = Callable[[Any, int], nn.Module]  # a backbone's section of a recipe, channels -> the network, without weights


def remade(made: dict[str, Any], build: Build) -> nn.Module:
    """The network that `Backbone.made` describes, without its weights. No file is read and nothing is downloaded.

    `made` may come from a stranger's config.json: names and arguments that are not known to be harmless are refused.

    Raises:
        InputError: it was a module of the user's own, which only Python can give again; or something is refused.
    """
    if made.get("kind") == "torchvision":
        return torchvision.remade(made)
    if made.get("kind") == "timm":
        return timm.remade(made)
    if made.get("kind") == "connr":
        given, channels = made.get("backbone"), made.get("channels")
        section = recipe.backbone(given) if isinstance(given, dict) else None
        if section is None or isinstance(section, recipe.Pretrained) or channels not in (1, 3):
            raise InputError(f"`backbone` names no network of connr's own for images of 1 or 3 channels: {str(made)[:200]}")
        return build(section, channels)
    raise InputError(
        f"the backbone was a module of your own, {made.get('name', made)!s:.200}: "
        "in Python, ConNR.load(FOLDER, backbone=MODULE)."
    )
