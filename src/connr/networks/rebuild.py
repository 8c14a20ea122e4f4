"""A network once more from what a model says of how it was made: its weights are in the model's own file."""

from collections.abc import Callable
from typing import Any

from torch import nn

from connr import recipe
from connr.errors import InputError
from connr.networks import timm, torchvision

Build = Callable[[Any, int], nn.Module]  # a backbone's section of a recipe, channels -> the network, without weights


def rebuild(backbone_config: dict[str, Any], build: Build) -> nn.Module:
    """The network that `Backbone.made` describes, without its weights. No file is read and nothing is downloaded.

    `made` may come from a stranger's config.json: names and arguments that are not known to be harmless are refused.

    Raises:
        InputError: it was a module of the user's own, which only Python can give again; or something is refused.
    """
    if backbone_config.get("kind") == "torchvision":
        return torchvision.rebuild(backbone_config)
    if backbone_config.get("kind") == "timm":
        return timm.rebuild(backbone_config)
    if backbone_config.get("kind") == "connr":
        given, channels = backbone_config.get("backbone"), backbone_config.get("channels")
        section = recipe.backbone(given) if isinstance(given, dict) else None
        if section is None or isinstance(section, recipe.Pretrained) or channels not in (1, 3):
            raise InputError(
                f"`backbone` names no network of connr's own for images of 1 or 3 channels: {str(backbone_config)[:200]}"
            )
        return build(section, channels)
    raise InputError(
        f"the backbone was a module of your own, {backbone_config.get('name', backbone_config)!s:.200}: "
        "in Python, ConNR.load(FOLDER, backbone=MODULE)."
    )
