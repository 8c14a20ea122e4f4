"""One file holds the whole run: tensors in safetensors, the rest as JSON in its header. No code in it can run.

Generators and the sampler need no place here: all randomness is a function of the seed and the position (`connr.randomness`).
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from connr.errors import InputError
from connr.key_memory import KeyMemory
from connr.kmeans import Clusters
from connr.run_folder import write_bytes
from connr.training.state import State
from connr.training.update import Updated

FORMAT = "connr-checkpoint-2"


def save(
    folder: Path, framework: nn.Module, optimizer: torch.optim.Optimizer, state: State, data: str, keep: int, t0: int
) -> Path:
    """Writes epoch-NNNNN.safetensors, or epoch-NNNNN-step-NNNNNN.safetensors within the next epoch, and then removes the old.

    The `keep` latest epochs stay (0 keeps all), and the one after epoch t0, the end of stage 1: other settings of stage 2
    can start from it. `data` is the fingerprint of the images; only a run on the same ones can go on from here.
    """
    tensors = {f"framework.{name}": value for name, value in framework.state_dict().items()}
    tensors |= {f"optimizer.{index}.{name}": value for index, name, value in _buffers(optimizer)}
    header: dict[str, Any] = {"format": FORMAT, "data": data, "epoch": state.epoch, "step": state.step}
    header |= {"seconds": state.seconds, "inertia": None}
    if state.told:
        tensors["told"] = torch.stack([torch.stack(one) for one in state.told])
    if state.clusters:
        tensors |= {"clusters.centroids": state.clusters.centroids, "clusters.assignments": state.clusters.assignments}
        header["inertia"] = state.clusters.inertia
    if state.step:  # an epoch begins without memory
        tensors |= {f"memory.{direction}": keys for direction, keys in enumerate(state.memory.keys)}
    tensors = on_cpu(tensors)
    header["digest"] = digest(tensors)
    path = at(folder, state.epoch, state.step)
    write_bytes(path, safetensors.torch.save(tensors, {"run": json.dumps(header)}))
    past = [old for old in checkpoints(folder) if position(old) < (state.epoch, state.step)]
    whole = [old for old in checkpoints(folder) if position(old)[1] == 0]
    for old in past:
        replaced = position(old)[1] > 0 and state.step == 0
        if replaced or (keep and old not in [*whole[-keep:], after(folder, t0)]):
            old.unlink()
    return path


def at(folder: Path, epoch: int, step: int) -> Path:
    """The checkpoint written when `epoch` epochs and `step` steps of the next one were finished."""
    within = f"-step-{step:06d}" if step else ""
    return folder / f"epoch-{epoch:05d}{within}.safetensors"


def after(folder: Path, epoch: int) -> Path:
    """The checkpoint written when `epoch` epochs were finished."""
    return at(folder, epoch, 0)


def position(path: Path) -> tuple[int, int]:
    """(epoch, step) of a checkpoint, from its name; (-1, 0) for any other file."""
    name = re.fullmatch(r"epoch-(\d+)(?:-step-(\d+))?\.safetensors", path.name)
    return (int(name[1]), int(name[2] or 0)) if name else (-1, 0)


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted((path for path in folder.glob("epoch-*.safetensors") if position(path)[0] >= 0), key=position)


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies that safetensors can write."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def digest(tensors: dict[str, Tensor]) -> str:
    """Of the names and bytes of contiguous CPU tensors; safetensors itself sees a file cut short, but no flipped bit."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        found.update(f"{name}\0".encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


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
    if header.get("digest") != digest(tensors):
        raise InputError(f"checkpoint {path} has changed since it was written; remove it to go on from the one before.")
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
    device = parameters[0].device
    clusters = None
    if header["inertia"] is not None:
        found = _below(tensors, "clusters.")
        clusters = Clusters(found["centroids"].to(device), found["assignments"].to(device), header["inertia"])
    memory = [keys.to(device) for _, keys in sorted(_below(tensors, "memory.").items())]
    told = [Updated(*one) for one in tensors["told"].to(device)] if "told" in tensors else []
    return State(
        header["epoch"], header["step"], told, header["seconds"], clusters, KeyMemory(max(map(len, memory), default=0), memory)
    )


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
