"""Reads safetensors files and validates tensors before they are loaded into a network."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file. Allocates no more than the size of the file.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        ValueError: it is no safetensors file, or is cut short.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as fault:
        raise ValueError(str(fault)) from fault
    except (AttributeError, KeyError, RuntimeError) as fault:  # an element type that this torch does not have
        raise ValueError(f"it holds tensors that torch cannot read: {fault!r}") from fault


def check_shapes(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Checks that tensors match the state dict of a network in names, shapes and types.

    Extra states (torch's `get_extra_state`) may have any shape: the modules that take them refuse what is not theirs.

    Raises:
        ValueError: one is missing or left over, or has another shape or type.
    """
    wanted = network.state_dict()
    if missing := [name for name in wanted if name not in tensors]:
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    if extra := [name for name in tensors if name not in wanted]:
        raise ValueError(f"{len(extra)} tensors do not belong to the network, the first is {extra[0][:80]!r}")
    for name, value in tensors.items():
        own = wanted[name]
        if name.endswith("_extra_state"):
            continue
        if (value.shape, value.dtype) != (own.shape, own.dtype):
            raise ValueError(
                f"{name} is {value.dtype} {list(value.shape)}, should be {own.dtype} {list(own.shape)} by the recipe"
            )


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Checks that all weights are finite.

    Raises:
        ValueError: one is NaN or infinite.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds numbers that are NaN or infinite")
