"""One file per epoch holds the whole run: tensors in safetensors, the rest as JSON in its header. No code in it can run.

Generators need no place here: all randomness is a function of the seed and the position (`connr.randomness`).
"""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from connr.errors import InputError
from connr.kmeans import Clusters
from connr.run_folder import write_bytes
from connr.training.loop import State

FORMAT = "connr-checkpoint-1"


def save(
    folder: Path, framework: nn.Module, optimizer: torch.optim.Optimizer, state: State, data: str, keep: int, t0: int
) -> Path:
    """Writes epoch-NNNNN.safetensors and then removes all but the `keep` latest (0 keeps all).

    The one after epoch t0, the end of stage 1, stays: other settings of stage 2 can start from it.
    `data` is the fingerprint of the images; only a run on the same ones can go on from here.
    """
    tensors = {f"framework.{name}": value for name, value in framework.state_dict().items()}
    tensors |= {f"optimizer.{index}.{name}": value for index, name, value in _buffers(optimizer)}
    header = {"format": FORMAT, "data": data, "epoch": state.epoch, "inertia": None}
    if state.clusters:
        tensors |= {"clusters.centroids": state.clusters.centroids, "clusters.assignments": state.clusters.assignments}
        header["inertia"] = state.clusters.inertia
    path = after(folder, state.epoch)
    write_bytes(path, safetensors.torch.save(on_cpu(tensors), {"run": json.dumps(header)}))
    for old in checkpoints(folder)[:-keep] if keep else []:
        if old != after(folder, t0):
            old.unlink()
    return path


def after(folder: Path, epoch: int) -> Path:
    """The checkpoint written when `epoch` epochs were finished."""
    return folder / f"epoch-{epoch:05d}.safetensors"


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies that safetensors can write."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted(folder.glob("epoch-*.safetensors"))


def load(path: Path, framework: nn.Module, optimizer: torch.optim.Optimizer, data: str) -> State:
    """Puts weights and optimiser back in place and returns how far the run had come.

    Raises:
        InputError: the file is broken, or was written for another network or on other images.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("run", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as fault:
        raise InputError(f"checkpoint {path} cannot be read: {fault}; remove it to go on from the one before.") from fault
    if header.get("format") != FORMAT:
        raise InputError(f"checkpoint {path} has format {header.get('format')}, should be {FORMAT}.")
    if header.get("data") != data:
        raise InputError(f"checkpoint {path} is of a run on other images: some were added, removed or changed since.")
    try:
        framework.load_state_dict(_below(tensors, "framework."))
    except RuntimeError as fault:
        raise InputError(f"checkpoint {path} is of another network: {fault}") from fault
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in _below(tensors, "optimizer.").items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        optimizer.state[parameter][name] = value.to(parameter.device)
    clusters = None
    if header["inertia"] is not None:
        device = parameters[0].device
        found = _below(tensors, "clusters.")
        clusters = Clusters(found["centroids"].to(device), found["assignments"].to(device), header["inertia"])
    return State(epoch=header["epoch"], clusters=clusters)


def _buffers(optimizer: torch.optim.Optimizer) -> list[tuple[int, str, Tensor]]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [
        (index, name, value)
        for index, parameter in enumerate(parameters)
        for name, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    ]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
