"""Reads files of weights. No code in them is executed: files with anything but tensors are refused."""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from connr.errors import InputError

WRAPPERS = ("state_dict", "model", "model_state", "teacher", "student")  # keys under which trainers store a state dict
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def read_weights(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors file or a file of `torch.save`.

    Raises:
        InputError: the file does not exist, is broken, or could execute code.
    """
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist.")
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
    except Exception as fault:  # a broken file may raise any exception of zipfile, safetensors or torch
        raise InputError(f"{path} cannot be read as weights: {first_line(fault)}") from fault
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} is not a state dict: it should hold names and tensors.")
    return {_plain(str(name)): value for name, value in content.items()}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path | str, left_out: str = "") -> None:
    """Loads a state dict strictly; tensors below `left_out`, the removed classifier, are ignored.

    Raises:
        InputError: a tensor is missing, unexpected, or has another shape.
    """
    wanted = {name: value for name, value in weights.items() if not (left_out and name.startswith(f"{left_out}."))}
    try:
        network.load_state_dict(wanted)
    except RuntimeError as fault:
        lines = [line.strip() for line in str(fault).splitlines()]
        raise InputError(f"the weights {path} are of another network: {' '.join(lines[1:3])[:300]}") from fault


def download(what: str, url: str, place: Path | None, fetch: Callable[[], str | os.PathLike[str]]) -> Path:
    """The file that `fetch` downloads.

    Raises:
        InputError: the download failed; the message says what to get and where to put it.
    """
    try:
        return Path(fetch())
    except InputError:
        raise
    except Exception as fault:  # urllib, httpx and huggingface_hub raise many types
        put = f"put it at {place}, or " if place else ""
        raise InputError(
            f"the weights of {what} are not on this machine and cannot be downloaded ({first_line(fault)}): "
            f"get {url} elsewhere, {put}say where it is with --set backbone.weights=FILE."
        ) from fault


def first_line(fault: Exception) -> str:
    """The message of an exception, in one line of at most 120 characters."""
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0][:120]


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
