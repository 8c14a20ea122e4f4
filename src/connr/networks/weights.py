"""Files of weights, read as tensors. No code in them is ever run: what is more than tensors is refused."""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from connr.errors import InputError

WRAPPERS = ("state_dict", "model", "model_state", "teacher", "student")  # what trainers put around a state dict
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def read_weights(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors file, or of one that `torch.save` wrote.

    Raises:
        InputError: it is not there, is broken, or holds what could run code.
    """
    if not path.is_file():
        raise InputError(f"the weights {path} are not there.")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise InputError(
            f"{path} is no file of weights, or holds more than tensors, and reading it could run code from it: refused. "
            "Ask for the weights as .safetensors, or save the state dict alone."
        ) from fault
    except Exception as fault:  # zipfile, safetensors, torch: whatever a broken file sets off
        raise InputError(f"{path} cannot be read as weights: {first_line(fault)}") from fault
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} is no state dict: it should hold names and tensors.")
    return {_plain(str(name)): value for name, value in content.items()}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path | str, left_out: str = "") -> None:
    """Every tensor into its place; those below `left_out`, a classifier that was taken off, may be there too.

    Raises:
        InputError: one is missing, is left over or has another shape.
    """
    wanted = {name: value for name, value in weights.items() if not (left_out and name.startswith(f"{left_out}."))}
    try:
        network.load_state_dict(wanted)
    except RuntimeError as fault:
        lines = [line.strip() for line in str(fault).splitlines()]
        raise InputError(f"the weights {path} are of another network: {' '.join(lines[1:3])[:300]}") from fault


def download(what: str, url: str, place: Path | None, fetch: Callable[[], str | os.PathLike[str]]) -> Path:
    """The file that `fetch` downloads, where there is a network.

    Raises:
        InputError: it cannot; one line that says what to get and where to put it.
    """
    try:
        return Path(fetch())
    except InputError:
        raise
    except Exception as fault:  # urllib, httpx, huggingface_hub: as many kinds as ways to have no network
        put = f"put it at {place}, or " if place else ""
        raise InputError(
            f"the weights of {what} are not on this machine and cannot be downloaded ({first_line(fault)}): "
            f"get {url} elsewhere, {put}say where it is with --set backbone.weights=FILE."
        ) from fault


def first_line(fault: Exception) -> str:
    """What went wrong, in one line of at most 120 characters."""
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0][:120]


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
