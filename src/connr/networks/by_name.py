"""A backbone by name: `torchvision:NAME[:WEIGHTS]`, `timm:NAME`, `hub:FOLDER`, `hub:USER/NAME` or `run:FOLDER`.

Nothing is downloaded but when weights are asked for that are not on this machine.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from connr.errors import InputError
from connr.networks import former, hub, timm, torchvision
from connr.networks.backbone import Backbone, Input
from connr.networks.pointwise import without_strided_pointwise

KINDS = ("torchvision", "timm", "hub", "run")


def expects(model: str) -> Input:
    """The input format of a network, from its configuration.

    Raises:
        InputError: there is no such network.
    """
    kind, name = _split_name(model)
    found: Input = _KIND[kind].input_of(name)
    return found


def open_backbone(model: str, weights: str | None, size: int) -> Backbone:
    """The network and its weights, in evaluation mode.

    Args:
        model: its name.
        weights: a file; `random`; None for the pretrained ones.
        size: of the images in pixels, for networks with a fixed input size.

    Raises:
        InputError: there is no such network, or its weights are not available, do not fit, or contain code.
    """
    kind, name = _split_name(model)
    if kind == "torchvision":
        found = torchvision.open_network(name, weights)
    elif kind == "run":
        found = former.open_network(name, weights)
    elif kind == "timm":
        found = timm.open_network(name, weights, size)
    else:
        found = hub.open_network(name, weights, size)
    without_strided_pointwise(found.network).eval()
    return found


def own(module: nn.Module, size: int, channels: int) -> Backbone:
    """A backbone from a copy of a user's module.

    Args:
        module: images (b c h w) to features (b f); attributes `mean` and `std` per channel, if any, standardise the images.
        size: of the images in pixels.
        channels: 1 or 3.
    """
    mean, std = (
        [float(x) for x in found] if (found := getattr(module, name, None)) is not None else None for name in ("mean", "std")
    )
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    wanted = Input(size, channels, mean, std)
    return Backbone(
        without_strided_pointwise(deepcopy(module)).eval(), wanted, {"kind": "module", "name": name}, f"module {name}"
    )


def prefer_if_cached(model: str) -> Path | None:
    """The file of its weights on this machine; None if there is none, or if its package is not installed."""
    kind, name = _split_name(model)
    try:
        found: Path | None = _KIND[kind].prefer_if_cached(name)
    except InputError:
        return None
    return found


def _split_name(model: str) -> tuple[str, str]:
    kind, colon, name = model.partition(":")
    if kind == "hub" and name and Path(name).is_dir() and hub.is_connr(name):
        return "run", name
    if not colon or not name or kind not in KINDS:
        raise InputError(
            f"backbone.model={model!r} should read torchvision:NAME, torchvision:NAME:WEIGHTS, timm:NAME, hub:FOLDER, "
            "hub:USER/NAME or run:FOLDER."
        )
    return kind, name


_KIND: dict[str, Any] = {"torchvision": torchvision, "timm": timm, "hub": hub, "run": former}
