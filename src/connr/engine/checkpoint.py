"""Checkpoints: tensors in safetensors, everything else as JSON in the header. Loading executes no code.

No generator state is saved: all randomness is a function of the seed and the position (`connr.randomness`).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from connr.clustering.assigners import Assigner
from connr.clustering.kmeans import Clusters
from connr.engine import optimizers
from connr.engine.extraction import input_dtype
from connr.engine.state import State
from connr.errors import InputError
from connr.methods import Method
from connr.run_folder import write_bytes
from connr.schema import CheckpointHeader, check_header, parse_json
from connr.schema.tensors import check_finite, check_shapes, read_tensors

# Prefixes of tensor names.
METHOD, ASSIGNER, OPTIMIZER, METRICS, WHOLE_SET = "method.", "assigner.", "optimizer.", "metrics.", "whole_set."
WHOLE_SET_TENSORS = ("neighbours", "features")  # attributes of `State`


def save(folder: Path, method: nn.Module, state: State, data: str, keep: int, milestones: Sequence[int] = ()) -> Path:
    """Writes epoch-NNNNN.safetensors, or epoch-NNNNN-step-NNNNNN.safetensors within an epoch, then removes old checkpoints.

    Args:
        folder: of the checkpoints.
        method: its state dict is written.
        state: the position in training, with the optimiser.
        data: the fingerprint of the images; `load` requires the same.
        keep: number of latest checkpoints to keep; 0 keeps all.
        milestones: epochs whose checkpoints are kept as well, such as the ends of phases, from which other runs can start.

    Returns:
        The path of the checkpoint.
    """
    tensors = {f"{METHOD}{name}": value for name, value in method.state_dict().items()}
    if state.optimizer is not None:
        tensors |= {f"{OPTIMIZER}{name}": value for name, value in optimizers.state_tensors(state.optimizer).items()}
    for name in state.step_metrics[0] if state.step_metrics else ():
        tensors[f"{METRICS}{name}"] = torch.stack([step[name] for step in state.step_metrics])
    if state.clusters:
        tensors |= {"clusters.centroids": state.clusters.centroids, "clusters.assignments": state.clusters.assignments}
    if state.assigner is not None:
        tensors |= {f"{ASSIGNER}{name}": value for name, value in state.assigner.state_dict().items()}
    tensors |= {f"{WHOLE_SET}{name}": found for name in WHOLE_SET_TENSORS if (found := getattr(state, name)) is not None}
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
    earlier = [old for old in checkpoints(folder) if position(old) < (state.epoch, state.step)]
    between_epochs = [old for old in checkpoints(folder) if position(old)[1] == 0]
    kept = {*between_epochs[-keep:], *(after(folder, epoch) for epoch in milestones)}
    for old in earlier:
        replaced = position(old)[1] > 0 and state.step == 0
        if replaced or (keep and old not in kept):
            old.unlink()
    return path


def at(folder: Path, epoch: int, step: int) -> Path:
    """The path of the checkpoint after `epoch` epochs and `step` steps of the next one."""
    within = f"-step-{step:06d}" if step else ""
    return folder / f"epoch-{epoch:05d}{within}.safetensors"


def after(folder: Path, epoch: int) -> Path:
    """The path of the checkpoint after `epoch` epochs."""
    return at(folder, epoch, 0)


def position(path: Path) -> tuple[int, int]:
    """(epoch, step) of a checkpoint, from its file name; (-1, 0) for any other file."""
    name = re.fullmatch(r"epoch-(\d+)(?:-step-(\d+))?\.safetensors", path.name)
    return (int(name[1]), int(name[2] or 0)) if name else (-1, 0)


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a folder, oldest first."""
    return sorted((path for path in folder.glob("epoch-*.safetensors") if position(path)[0] >= 0), key=position)


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detached, contiguous CPU tensors, as safetensors needs them."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def digest(tensors: dict[str, Tensor]) -> str:
    """A hash of names and bytes of contiguous CPU tensors. safetensors detects a truncated file, but not a flipped bit."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        found.update(f"{name}\0".encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load(path: Path, method: Method, data: str) -> State:
    """Restores the weights of a method and returns its training state, with the optimiser's tensors.

    Args:
        path: of the checkpoint.
        method: its state dict is replaced.
        data: the fingerprint of the images.

    Raises:
        InputError: the file is broken, or belongs to another network or other images.
    """
    header, tensors = read(path, data)
    weights = _below(tensors, METHOD)
    try:
        check_shapes(method, weights)
    except ValueError as fault:
        raise InputError(f"checkpoint {path} is of another network: {fault}.") from fault
    try:
        check_finite(weights)
        buffers = _below(tensors, OPTIMIZER)
        check_finite({f"the optimiser's {name[:40]}": value for name, value in buffers.items()})
        clusters = _clusters(header, _below(tensors, "clusters."), input_dtype(method))
        metrics = _metrics(header, _below(tensors, METRICS))
        whole_set = _below(tensors, WHOLE_SET)
        assigner = _assigner(method, _below(tensors, ASSIGNER)) if clusters else None
        method.load_state_dict(weights)
    except ValueError as fault:
        raise InputError(f"checkpoint {path} cannot be used: {fault}; remove it to go on from the one before.") from fault
    device = next(method.parameters()).device
    if clusters:
        clusters = clusters._replace(centroids=clusters.centroids.to(device), assignments=clusters.assignments.to(device))
    return State(
        header.epoch,
        header.step,
        [{name: values[step].to(device) for name, values in metrics.items()} for step in range(header.step)],
        header.seconds,
        clusters,
        assigner.to(device) if assigner is not None else None,
        whole_set["neighbours"].to(device) if "neighbours" in whole_set else None,
        whole_set["features"].to(device) if "features" in whole_set else None,
        optimizer_tensors=buffers,
    )


def read(path: Path, data: str) -> tuple[CheckpointHeader, dict[str, Tensor]]:
    """The header and the tensors of a checkpoint; its digest is verified.

    Args:
        path: of the checkpoint.
        data: the fingerprint of the images.

    Raises:
        InputError: the file is broken or was modified, or belongs to a run on other images.
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


def _clusters(header: CheckpointHeader, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Clusters | None:
    if header.inertia is None:
        return None
    centroids, assignments = tensors.get("centroids"), tensors.get("assignments")
    if centroids is None or centroids.ndim != 2 or not len(centroids) or centroids.dtype != dtype:
        raise ValueError(f"its centroids are not rows of numbers of type {dtype}")
    check_finite({"centroids": centroids})
    if assignments is None or assignments.ndim != 1 or not len(assignments) or assignments.dtype != torch.int64:
        raise ValueError("its assignments are not whole numbers")
    if not 0 <= int(assignments.min()) <= int(assignments.max()) < len(centroids):
        raise ValueError(f"its assignments are not in 0..{len(centroids) - 1}")
    return Clusters(centroids, assignments, header.inertia)


def _assigner(method: Method, tensors: dict[str, Tensor]) -> Assigner:
    """A copy of the fitted assigner, which further training does not change."""
    check_finite(tensors)
    assigner = deepcopy(method.assigner())
    assigner.restore(tensors)
    return assigner


def _metrics(header: CheckpointHeader, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The metrics (steps) of the unfinished epoch, by name."""
    if header.step and not {"loss", "gradient"} <= found.keys():
        raise ValueError("it has no loss and gradient of the steps of its epoch")
    for name, values in found.items():
        if tuple(values.shape) != (header.step,) or not values.is_floating_point():
            raise ValueError(f"its metric {name[:40]!r} should have {header.step} numbers, has {list(values.shape)}")
    return found


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
