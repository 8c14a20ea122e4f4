"""`run:FOLDER`, and `hub:` for models of connr: the backbone of a finished run or of an exported model."""

from pathlib import Path

from connr.errors import InputError
from connr.networks.backbone import Backbone, Input
from connr.networks.rebuild import rebuild
from connr.networks.weights import load_weights, read_weights
from connr.schema import ModelConfig, read_model_config

ENCODER = "representation.0."  # prefix in model.safetensors; the other modules are heads


def input_of(folder: str) -> Input:
    """From its config.json.

    Raises:
        InputError: there is no finished run of pictures.
    """
    config = _read(folder)
    data = config.recipe.data
    return Input(data.size, data.channels, config.mean, config.std, data.interpolation)


def open_network(folder: str, weights: str | None) -> Backbone:
    """The trained encoder of a run, without its heads.

    Raises:
        InputError: as `input_of`; or the weights cannot be read or do not fit.
    """
    config = _read(folder)
    r = config.recipe
    backbone_config = config.backbone_config or {
        "kind": "connr",
        "backbone": r.backbone.model_dump(mode="json"),
        "channels": r.data.channels,
    }
    network = rebuild(backbone_config)
    if weights == "random":
        return Backbone(network, input_of(folder), backbone_config, "random")
    path = Path(weights) if weights else Path(folder) / "model.safetensors"
    tensors = read_weights(path)
    own = {name.removeprefix(ENCODER): value for name, value in tensors.items() if name.startswith(ENCODER)}
    load_weights(network, own or tensors, path)
    return Backbone(network, input_of(folder), backbone_config, str(path))


def prefer_if_cached(folder: str) -> Path | None:
    path = Path(folder) / "model.safetensors"
    return path if path.is_file() else None


def _read(folder: str) -> ModelConfig:
    try:
        config = read_model_config(Path(folder) / "config.json")
    except InputError as fault:
        raise InputError(f"run:{folder} is neither a finished run nor an exported model: {fault}") from fault
    if config.recipe.takes_features:
        raise InputError(f"run:{folder} was a run on features: it has no backbone for pictures.")
    return config
