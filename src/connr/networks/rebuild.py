"""Rebuilds the network of a saved model from its config; the weights are in the file of the model."""

from typing import Any

from torch import nn

from connr import recipe
from connr.errors import InputError
from connr.networks import timm, torchvision


def rebuild(backbone_config: dict[str, Any]) -> nn.Module:
    """The network of a `Backbone.backbone_config`, without weights. Reads no file and downloads nothing.

    `made` may come from a stranger's config.json: names and arguments that are not known to be harmless are refused.

    Raises:
        InputError: the backbone was a user's module, which must be passed in Python; or the config is not valid.
    """
    if backbone_config.get("kind") == "torchvision":
        return torchvision.rebuild(backbone_config)
    if backbone_config.get("kind") == "timm":
        return timm.rebuild(backbone_config)
    if backbone_config.get("kind") == "connr":
        given, channels = backbone_config.get("backbone"), backbone_config.get("channels")
        section = recipe.backbone(given) if isinstance(given, dict) else None
        if section is None or section.pretrained or section.takes_features or channels not in (1, 3):
            raise InputError(
                f"`backbone` names no network of connr's own for images of 1 or 3 channels: {str(backbone_config)[:200]}"
            )
        network: nn.Module = section.build(channels)
        return network
    raise InputError(
        f"the backbone was a module of your own, {backbone_config.get('name', backbone_config)!s:.200}: "
        "in Python, ConNR.load(FOLDER, backbone=MODULE)."
    )
