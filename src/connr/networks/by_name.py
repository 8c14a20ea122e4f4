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
from connr.networks.rebuild import Build

KINDS = ("torchvision", "timm", "hub", "run")


def expects(model: str) -> Input:
    """How the network wants its images, by its own configuration.

    Raises:
        InputError: there is no such network.
    """
    kind, name = _parted(model)
    found: Input = _KIND[kind].input_of(name)
    return found


def open_backbone(model: str, weights: str | None, size: int, build: Build) -> Backbone:
    """The network and its weights, in evaluation mode.

    Args:
        model: its name.
        weights: a file; `random`; None for the network's own.
        size: of the images that it will be given, for networks that are made for one size.
        build: makes a network of connr's own.

    Raises:
        InputError: there is no such network, or its weights cannot be had, are others', or hold code.
    """
    kind, name = _parted(model)
    if kind == "torchvision":
        found = torchvision.open_network(name, weights)
    elif kind == "run":
        found = former.open_network(name, weights, build)
    elif kind == "timm":
        found = timm.open_network(name, weights, size)
    else:
        found = hub.open_network(name, weights, size)
    without_strided_pointwise(found.network).eval()
    return found


def own(module: nn.Module, size: int, channels: int) -> Backbone:
    """A copy of a module of the user's own, its input standardised by its attributes `mean` and `std` per channel, if any."""
    mean, std = (
        [float(x) for x in found] if (found := getattr(module, name, None)) is not None else None for name in ("mean", "std")
    )
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    wanted = Input(size, channels, mean, std)
    return Backbone(
        without_strided_pointwise(deepcopy(module)).eval(), wanted, {"kind": "module", "name": name}, f"module {name}"
    )


def prefer_if_cached(model: str) -> Path | None:
    """Where its weights are on this machine, None where they are not, or where its package is not installed."""
    kind, name = _parted(model)
    try:
        found: Path | None = _KIND[kind].prefer_if_cached(name)
    except InputError:
        return None
    return found


def _parted(model: str) -> tuple[str, str]:
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
