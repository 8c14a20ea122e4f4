"""One file holds the whole run: tensors in safetensors, the rest as JSON in its header. No code in it can run.

Generators and the sampler need no place here: all randomness is a function of the seed and the position (`connr.randomness`).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from connr.clustering.kmeans import Clusters
from connr.engine.state import State
from connr.engine.update import Updated
from connr.errors import InputError
from connr.key_memory import KeyMemory
from connr.run_folder import write_bytes
from connr.schema import CheckpointHeader, check_header, parse_json
from connr.schema.tensors import check_finite, check_shapes, read_tensors


def save(
    folder: Path, framework: nn.Module, optimizer: torch.optim.Optimizer, state: State, data: str, keep: int, t0: int
) -> Path:
    """Writes epoch-NNNNN.safetensors, or epoch-NNNNN-step-NNNNNN.safetensors within the next epoch, and then removes the old.

    The `keep` latest epochs stay (0 keeps all), and the one after epoch t0, the end of stage 1: other settings of stage 2
    can start from it. `data` is the fingerprint of the images; only a run on the same ones can go on from here.
    """
    tensors = {f"framework.{name}": value for name, value in framework.state_dict().items()}
    tensors |= {f"optimizer.{index}.{name}": value for index, name, value in _buffers(optimizer)}
    if state.step_metrics:
        tensors["told"] = torch.stack([torch.stack(one) for one in state.step_metrics])
    if state.clusters:
        tensors |= {"clusters.centroids": state.clusters.centroids, "clusters.assignments": state.clusters.assignments}
    if state.step:  # an epoch begins without memory
        tensors |= {f"memory.{direction}": keys for direction, keys in enumerate(state.memory.keys)}
    tensors = on_cpu(tensors)
    header = CheckpointHeader(
        data=data,
        epoch=state.epoch,
        step=state.step,
        seconds=state.seconds,
        inertia=state.clusters.inertia if state.clusters else None,
        digest=digest(tensors),
    )
    path = at(folder, state.epoch, state.step)
    write_bytes(path, safetensors.torch.save(tensors, {"run": json.dumps(header.model_dump())}))
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

    Args:
        path: of the checkpoint.
        framework: its weights are replaced.
        optimizer: so is its state.
        data: the fingerprint of the images.

    Raises:
        InputError: the file is broken, or was written for another network or on other images.
    """
    header, tensors = read(path, data)
    weights, buffers = _below(tensors, "framework."), _below(tensors, "optimizer.")
    try:
        check_shapes(framework, weights)
    except ValueError as fault:
        raise InputError(f"checkpoint {path} is of another network: {fault}.") from fault
    try:
        check_finite(weights)
        found = [(*_of_parameter(key, value, optimizer), value) for key, value in buffers.items()]
        clusters = _clusters(header, _below(tensors, "clusters."))
        told = _told(header, tensors.get("told"))
    except ValueError as fault:
        raise InputError(f"checkpoint {path} cannot be used: {fault}; remove it to go on from the one before.") from fault
    framework.load_state_dict(weights)
    for parameter, name, value in found:
        optimizer.state[parameter][name] = value.to(parameter.device)
    device = next(framework.parameters()).device
    if clusters:
        clusters = clusters._replace(centroids=clusters.centroids.to(device), assignments=clusters.assignments.to(device))
    keys = [part.to(device) for _, part in sorted(_below(tensors, "memory.").items())]
    memory = KeyMemory(max(map(len, keys), default=0), keys)
    return State(header.epoch, header.step, [Updated(*one.to(device)) for one in told], header.seconds, clusters, memory)


def read(path: Path, data: str) -> tuple[CheckpointHeader, dict[str, Tensor]]:
    """The header and the tensors of a checkpoint, unchanged since it was written.

    Raises:
        InputError: the file is broken or has changed, or is of a run on other images.
    """
    try:
        metadata, tensors = read_tensors(path)
    except (OSError, ValueError) as fault:
        raise InputError(f"checkpoint {path} cannot be read: {fault}; remove it to go on from the one before.") from fault
    header = check_header(parse_json(metadata.get("run", "{}"), f"checkpoint {path}"), str(path))
    if header.digest != digest(tensors):
        raise InputError(f"checkpoint {path} has changed since it was written; remove it to go on from the one before.")
    if header.data != data:
        raise InputError(f"checkpoint {path} is of a run on other images: some were added, removed or changed since.")
    return header, tensors


def _of_parameter(key: str, value: Tensor, optimizer: torch.optim.Optimizer) -> tuple[nn.Parameter, str]:
    """The parameter that a tensor of the optimiser, INDEX.NAME, belongs to, and its name."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    index, _, name = key.partition(".")
    if not (index.isdecimal() and len(index) < 10 and int(index) < len(parameters) and name):
        raise ValueError(f"the optimiser has no parameter {key[:40]!r}")
    parameter: nn.Parameter = parameters[int(index)]
    if (value.shape, value.dtype) != (parameter.shape, parameter.dtype):
        raise ValueError(f"the optimiser's {key[:40]} is {value.dtype} {list(value.shape)}, not as its parameter")
    check_finite({f"the optimiser's {key[:40]}": value})
    return parameter, name


def _clusters(header: CheckpointHeader, tensors: Mapping[str, Tensor]) -> Clusters | None:
    if header.inertia is None:
        return None
    centroids, assignments = tensors.get("centroids"), tensors.get("assignments")
    if centroids is None or centroids.ndim != 2 or not len(centroids) or centroids.dtype != torch.float32:
        raise ValueError("its centroids are not rows of numbers in single precision")
    check_finite({"centroids": centroids})
    if assignments is None or assignments.ndim != 1 or not len(assignments) or assignments.dtype != torch.int64:
        raise ValueError("its assignments are not whole numbers")
    if not 0 <= int(assignments.min()) <= int(assignments.max()) < len(centroids):
        raise ValueError(f"its assignments are not in 0..{len(centroids) - 1}")
    return Clusters(centroids, assignments, header.inertia)


def _told(header: CheckpointHeader, found: Tensor | None) -> Tensor:
    """Loss, share of anchors kept and norm of the gradient of each step of the epoch that is not finished."""
    told = torch.zeros(0, 3) if found is None else found
    if tuple(told.shape) != (header.step, 3) or not told.is_floating_point():
        raise ValueError(f"it should have numbers of {header.step} steps, has {list(told.shape)}")
    return told


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
