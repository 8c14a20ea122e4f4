"""`torchvision:NAME[:WEIGHTS]`: classification networks of torchvision without their classifier."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from connr.errors import InputError
from connr.networks.backbone import Backbone, Input
from connr.networks.weights import download, load_weights, read_weights

CLASSIFIERS = ("fc", "classifier", "heads", "head")  # torchvision's names of it
OTHER_OUTPUTS = ("googlenet", "inception_v3")  # networks with auxiliary outputs in training mode


def input_of(name: str) -> Input:
    """The input format, from the transforms of the weights.

    Raises:
        InputError: there is no such network, or no such weights.
    """
    transforms: Any = _weights(name).transforms()
    return Input(
        size=transforms.crop_size[0],
        mean=list(transforms.mean),
        std=list(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def open_network(name: str, weights: str | None) -> Backbone:
    """The network with its pretrained weights, those of a file, or random ones.

    Raises:
        InputError: the weights are not available or cannot be read.
    """
    architecture = name.partition(":")[0]
    backbone_config, place = {"kind": "torchvision", "name": architecture}, "random"
    wanted = input_of(name)
    network, classifier = _bare(architecture)
    if weights != "random":
        path = Path(weights) if weights else _fetched(name)
        load_weights(network, read_weights(path), path, left_out=classifier)
        place = str(path)
    return Backbone(network, wanted, backbone_config, place)


def rebuild(backbone_config: dict[str, Any]) -> nn.Module:
    """The network of a `Backbone.backbone_config`, without weights.

    Raises:
        InputError: it is not a classification network of torchvision; other kinds would download a backbone.
    """
    return _bare(_known(backbone_config.get("name")))[0]


def prefer_if_cached(name: str) -> Path | None:
    """The file of the weights on this machine; None if there is none."""
    path = _place(_weights(name).url)
    return path if path.is_file() else None


def _bare(architecture: str) -> tuple[nn.Module, str]:
    """The network without its last linear layer, and the name of that layer."""
    network: nn.Module = models.get_model(architecture, weights=None)
    for top in (name for name in CLASSIFIERS if hasattr(network, name)):
        inside = [name for name, module in network.get_submodule(top).named_modules() if isinstance(module, nn.Linear)]
        if inside:
            last = f"{top}.{inside[-1]}".rstrip(".")
            parent, _, attribute = last.rpartition(".")
            setattr(network.get_submodule(parent), attribute, nn.Identity())
            return network, last
    raise InputError(f"torchvision:{architecture} has no linear layer at its end that could be removed; choose another.")


def _known(architecture: object) -> str:
    known = [each for each in models.list_models(module=models) if each not in OTHER_OUTPUTS]
    if not isinstance(architecture, str) or architecture not in known:
        raise InputError(f"torchvision:{architecture!s:.80} should be one of: {', '.join(known)}.")
    return architecture


def _weights(name: str) -> Any:
    architecture, _, wanted = name.partition(":")
    found = models.get_model_weights(_known(architecture))
    names = [weights.name for weights in found]
    if wanted and wanted not in names:
        raise InputError(f"torchvision:{name}: the weights should be one of: {', '.join(names)}.")
    return found[wanted] if wanted else found.DEFAULT


def _place(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _fetched(name: str) -> Path:
    url, path = _weights(name).url, _place(_weights(name).url)
    if path.is_file():
        return path

    def fetch() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)
        return path

    return download(f"torchvision:{name}", url, path, fetch)
