"""Saves the model of a run to its folder and loads it. Nothing in the folder is executed as code."""

from typing import Any

import safetensors.torch
import torch
from torch import nn

from connr import experiment, pretrained
from connr.clustering.assigners import Assigner, Centroids
from connr.engine import checkpoint
from connr.engine.extraction import input_dtype
from connr.errors import InputError
from connr.model import Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder, write_bytes
from connr.schema import ModelConfig, read_model_config, write_model_config
from connr.schema.tensors import check_finite, check_shapes, read_tensors

PREFIX, ASSIGNER = "representation.", "assigner."

CENTROIDS = "centroids"  # in models of version 0.1


def save_model(r: Recipe, model: Model, folder: RunFolder, source: str = "") -> None:
    """Writes model.safetensors (network and assigner) and config.json (recipe, normalisation, version, source of the images).

    Args:
        r: the recipe.
        model: fitted.
        folder: of the run.
        source: of the images, `ImageSet.source`.
    """
    tensors = {f"{PREFIX}{name}": value for name, value in model.representation.state_dict().items()}
    tensors |= {f"{ASSIGNER}{name}": value for name, value in model.assigner.state_dict().items()}
    write_bytes(folder.model, safetensors.torch.save(checkpoint.on_cpu(tensors)))
    write_model_config(folder.config, r, model.mean, model.std, data=source, backbone_config=model.backbone_config)


def load_model(folder: RunFolder, device: str = "auto", backbone: nn.Module | None = None) -> tuple[Recipe, Model]:
    """The recipe and the fitted model of a finished run. Nothing in the folder is executed as code.

    Args:
        folder: of a finished run, or of an exported model.
        device: `auto`, `cpu`, `cuda` or `mps`.
        backbone: the network that the model was fitted with, if it was passed as a module.

    Raises:
        InputError: the folder holds no finished run, its files are broken, or its tensors do not match its recipe.
    """
    config = read_config(folder)
    r = config.recipe
    try:
        _, tensors = read_tensors(folder.model)
        if CENTROIDS in tensors:
            tensors[f"{ASSIGNER}centroids"] = tensors.pop(CENTROIDS)
        weights = {name.removeprefix(PREFIX): value for name, value in tensors.items() if not name.startswith(ASSIGNER)}
        of_assigner = {name.removeprefix(ASSIGNER): value for name, value in tensors.items() if name.startswith(ASSIGNER)}
        check_finite(weights)
        check_finite(of_assigner)
        if backbone is None and (outline := _outline(r, config.backbone_config)) is not None:
            check_shapes(outline, weights)  # before memory is allocated for the network of the recipe
        representation, assigner = pretrained.build_inference_network(r, config.backbone_config, backbone)
        check_shapes(representation, weights)
        representation.load_state_dict(weights)
        assigner.restore(of_assigner)
        _check_assigner(assigner, representation, r)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as fault:
        raise InputError(f"the model in {folder.path} cannot be read: {fault}.") from fault
    there = experiment.fabric_for(r, device).device
    model = Model(
        representation,
        assigner,
        config.mean,
        config.std,
        there,
        takes_features=r.takes_features,
        backbone_config=config.backbone_config,
    )
    return r, model


def read_config(folder: RunFolder) -> ModelConfig:
    """config.json of a finished run.

    Raises:
        InputError: the folder holds no finished run, or the file is not valid.
    """
    if not (folder.config.exists() and folder.model.exists()):
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.")
    return read_model_config(folder.config)


def _check_assigner(assigner: Assigner, representation: nn.Module, r: Recipe) -> None:
    """Raises ValueError if the assigner does not have the recipe's number of clusters or the network's feature width."""
    if assigner.n_clusters != r.clusters:
        raise ValueError(f"its assigner has {assigner.n_clusters} clusters, its recipe has {r.clusters}")
    shape = (r.data.features or 0,) if r.takes_features else (r.data.channels, r.data.size, r.data.size)
    with torch.no_grad():
        features = representation.eval()(torch.zeros(1, *shape, dtype=input_dtype(representation)))
    if isinstance(assigner, Centroids):
        found, wanted = assigner.centroids, (features.shape[1], features.dtype)
        if (found.shape[1], found.dtype) != wanted:
            wants = f"should be {features.dtype} {[r.clusters, features.shape[1]]}"
            raise ValueError(f"its centroids are {found.dtype} {list(found.shape)}, {wants}")


def _outline(r: Recipe, backbone_config: dict[str, Any] | None) -> nn.Module | None:
    """The network on the meta device; None if it cannot be built there, as some of timm's."""
    try:
        with torch.device("meta"):
            return pretrained.build_inference_network(r, backbone_config)[0]
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError):
        return None
