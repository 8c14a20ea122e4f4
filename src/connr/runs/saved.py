"""The model of a run, into its folder and back. Nothing in the folder is ever run as code."""

from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from connr import experiment, pretrained
from connr.errors import InputError
from connr.model import Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder, write_bytes
from connr.schema import ModelConfig, read_model_config, write_model_config
from connr.schema.tensors import check_finite, check_shapes, read_tensors
from connr.engine import checkpoint

PREFIX = "representation."


def save_model(r: Recipe, model: Model, folder: RunFolder, source: str = "") -> None:
    """model.safetensors (network and centroids) and config.json (recipe, normalisation, version, the images' source)."""
    weights = {f"{PREFIX}{name}": value for name, value in model.representation.state_dict().items()}
    tensors = {**weights, "centroids": model.centroids}
    write_bytes(folder.model, safetensors.torch.save(checkpoint.on_cpu(tensors)))
    write_model_config(folder.config, r, model.mean, model.std, data=source, backbone_config=model.backbone_config)


def load_model(folder: RunFolder, device: str = "auto", backbone: nn.Module | None = None) -> tuple[Recipe, Model]:
    """The recipe and the fitted model of a finished run. Nothing in the folder is run as code.

    Args:
        folder: of a finished run, or of an exported model.
        device: `auto`, `cpu`, `cuda` or `mps`.
        backbone: the network that it was fitted with, where that was one of the caller's own.

    Raises:
        InputError: the folder holds no finished run, its files are broken, or its tensors are not those of its recipe.
    """
    config = read_config(folder)
    r = config.recipe
    try:
        _, tensors = read_tensors(folder.model)
        centroids = _centroids(tensors.pop("centroids", None), r)
        weights = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
        check_finite(weights)
        if backbone is None and (outline := _outline(r, config.backbone_config)) is not None:
            check_shapes(outline, weights)  # before memory is taken for what the recipe says
        representation = pretrained.build_inference_network(r, config.backbone_config, backbone)
        check_shapes(representation, weights)
        representation.load_state_dict(weights)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as fault:
        raise InputError(f"the model in {folder.path} cannot be read: {fault}.") from fault
    there = experiment.fabric_for(r, device).device
    model = Model(representation, centroids, config.mean, config.std, there, takes_features=r.takes_features, backbone_config=config.backbone_config)
    return r, model


def read_config(folder: RunFolder) -> ModelConfig:
    """config.json of a finished run.

    Raises:
        InputError: the folder holds no finished run, or the file is not as a run writes it.
    """
    if not (folder.config.exists() and folder.model.exists()):
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.")
    return read_model_config(folder.config)


def _centroids(found: Tensor | None, r: Recipe) -> Tensor:
    shape = (r.clusters, r.framework.out)
    if found is None or found.dtype != torch.float32 or tuple(found.shape) != shape:
        there = "missing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise ValueError(f"its centroids are {there}, should be {torch.float32} {list(shape)} by its recipe")
    check_finite({"centroids": found})
    return found


def _outline(r: Recipe, backbone_config: dict[str, Any] | None) -> nn.Module | None:
    """The network without memory for its weights; None where it cannot be made without, as some of timm."""
    try:
        with torch.device("meta"):
            return pretrained.build_inference_network(r, backbone_config)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError):
        return None
