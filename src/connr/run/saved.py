"""The model of a run, into its folder and back. Nothing in the folder is ever run as code."""

import json
import math
from typing import Any

import safetensors.torch
from torch import nn

from connr import __version__, experiment, pretrained, recipe
from connr.errors import InputError
from connr.model import Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder, write_bytes, write_text
from connr.training import checkpoint


def save_model(r: Recipe, model: Model, folder: RunFolder, source: str = "") -> None:
    """model.safetensors (network and centroids) and config.json (recipe, normalisation, version, the images' source)."""
    weights = {f"representation.{name}": value for name, value in model.representation.state_dict().items()}
    tensors = {**weights, "centroids": model.centroids}
    write_bytes(folder.model, safetensors.torch.save(checkpoint.on_cpu(tensors)))
    config = {
        "connr": __version__,
        "data": source,
        "recipe": r.model_dump(mode="json"),
        "mean": model.mean,
        "std": model.std,
    }
    if model.made:
        config["backbone"] = model.made
    write_text(folder.config, json.dumps(config, indent=2) + "\n")


def load_model(folder: RunFolder, device: str = "auto", backbone: nn.Module | None = None) -> tuple[Recipe, Model]:
    """The recipe and the fitted model of a finished run. Nothing in the folder is run as code.

    Args:
        backbone: the network that it was fitted with, where that was one of the caller's own.

    Raises:
        InputError: the folder holds no finished run, or its files are broken.
    """
    if not (folder.config.is_file() and folder.model.is_file()):
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.")
    try:
        config = json.loads(folder.config.read_text(encoding="utf-8"))
        r = recipe.check(config["recipe"], str(folder.config))
        with safetensors.safe_open(folder.model, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        centroids = tensors.pop("centroids")
        made = config.get("backbone")
        representation = pretrained.whole(r, made, backbone)
        representation.load_state_dict({name.removeprefix("representation."): value for name, value in tensors.items()})
        mean, std = [float(x) for x in config["mean"]], [float(x) for x in config["std"]]
        width = r.data.features if r.takes_features else r.data.channels
        known = (len(mean), len(std), centroids.shape) == (width, width, (r.clusters, centroids.shape[1]))
        if (
            not known
            or not centroids.isfinite().all()
            or not all(map(math.isfinite, mean))
            or not all(0 < x < math.inf for x in std)
        ):
            raise ValueError("its numbers are not those of its recipe")
    except (OSError, KeyError, TypeError, ValueError, IndexError, safetensors.SafetensorError, RuntimeError) as fault:
        raise InputError(f"the model in {folder.path} cannot be read: {fault}") from fault
    there = experiment.fabric_for(r, device).device
    return r, Model(representation, centroids, mean, std, there, takes_features=r.takes_features, made=made)


def read_config(folder: RunFolder) -> dict[str, Any]:
    """config.json as `save_model` wrote it.

    Raises:
        InputError: it is not there, or not so.
    """
    try:
        config: dict[str, Any] = json.loads(folder.config.read_text(encoding="utf-8"))
        return {"data": "", **config, "recipe": recipe.check(config["recipe"], str(folder.config))}
    except FileNotFoundError as fault:
        state = "an unfinished run; finish it with --resume" if folder.holds_a_run() else "no run"
        raise InputError(f"{folder.path} holds {state}.") from fault
    except (OSError, KeyError, TypeError, ValueError) as fault:
        raise InputError(f"{folder.config} is not as a run writes it: {fault!r}.") from fault
