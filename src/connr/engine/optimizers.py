"""Optimisers: a parameter group for each role, learning rates, and state for checkpoints."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from connr.engine.plan import Plan
from connr.engine.timeline import Segment
from connr.errors import InputError
from connr.methods.method import Method, Optimizer
from connr.schedules import warmup_cosine

Depths = Callable[[nn.Module], Sequence[tuple[float, list[nn.Parameter]]]]


def _lars(groups: list[dict[str, Any]], chosen: Optimizer) -> TorchOptimizer:
    try:
        from timm.optim.lars import Lars
    except ImportError as fault:
        raise InputError('the optimiser lars is that of timm: pip install "connr[timm]".') from fault
    found: TorchOptimizer = Lars(groups, lr=chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay)
    return found


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Optimizer], TorchOptimizer]] = {
    "sgd": lambda groups, o: torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay),
    "adam": lambda groups, o: torch.optim.Adam(groups, lr=o.lr, weight_decay=o.weight_decay),
    "adamw": lambda groups, o: torch.optim.AdamW(groups, lr=o.lr, weight_decay=o.weight_decay),
    "rmsprop": lambda groups, o: torch.optim.RMSprop(groups, lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay),
    "lars": _lars,
}


def optimizer_for(method: Method, chosen: Optimizer, depths: Depths | None = None) -> TorchOptimizer:
    """An optimiser with a group for each parameter role. Groups have the keys `role` and `factor` (of the learning rate).

    Args:
        method: whose parameters are optimised.
        chosen: name and settings.
        depths: maps a pretrained backbone to its blocks of parameters, each with a factor of the learning rate.

    Raises:
        InputError: the optimiser needs a package that is not installed.
    """
    groups: list[dict[str, Any]] = []
    backbone = method.backbone
    for role, parameters in method.parameter_groups().items():
        if role == "encoder" and depths is not None and backbone is not None:
            blocks = depths(backbone)
            groups += [{"role": role, "factor": factor, "params": block} for factor, block in blocks]
            in_blocks = {id(parameter) for _, block in blocks for parameter in block}
            parameters = [parameter for parameter in parameters if id(parameter) not in in_blocks]
        groups.append({"role": role, "factor": 1.0, "params": list(parameters)})
    return OPTIMIZERS[chosen.name]([group for group in groups if group["params"]], chosen)


def freeze(optimizer: TorchOptimizer, segment: Segment) -> None:
    """Disables the gradients of roles whose learning rate factor is 0 in this phase, and enables those of the others."""
    for group in optimizer.param_groups:
        trained = segment.phase.lr_factors.get(group["role"], 1.0) > 0
        for parameter in group["params"]:
            parameter.requires_grad_(trained)
            parameter.grad = None if not trained else parameter.grad


def thaw(optimizer: TorchOptimizer) -> None:
    """Has all its parameters go with gradient again, so that a method finds the same ones to train in every phase."""
    for parameter in _parameters(optimizer):
        parameter.requires_grad_(True)


def learning_rate(plan: Plan, segment: Segment, span: tuple[Segment, ...], position: int) -> float:
    """The learning rate at a step, before the factors of roles.

    It follows the warm-up and cosine of the recipe, or the phase's schedule if the phase has its own optimiser.

    Args:
        plan: the settings of the run.
        segment: of the step.
        span: the segments of the schedule, see `Timeline.optimizer_span`.
        position: index of the step in the run.
    """
    chosen = segment.phase.optimizer
    at, steps = position - span[0].first_step, sum(each.steps for each in span)
    if chosen is None:
        peak = plan.optimizer.lr * (plan.batch_size / plan.reference_batch if plan.reference_batch else 1.0)
        return peak * warmup_cosine(at, steps, round(plan.warmup_epochs * segment.steps_per_epoch), plan.cosine_reaches_zero)
    return chosen.lr * (warmup_cosine(at, steps, 0) if chosen.schedule == "cosine" else 1.0)


def set_learning_rate(optimizer: TorchOptimizer, segment: Segment, rate: float) -> None:
    """Sets the learning rate of each group: `rate` times the factors of its role in this phase and of its depth."""
    for group in optimizer.param_groups:
        group["lr"] = rate * segment.phase.lr_factors.get(group["role"], 1.0) * group["factor"]


def state_tensors(optimizer: TorchOptimizer) -> dict[str, Tensor]:
    """The tensors of an optimiser's state by `INDEX.NAME`; INDEX counts parameters in the order of the groups."""
    return {
        f"{index}.{name}": value
        for index, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore(optimizer: TorchOptimizer, tensors: dict[str, Tensor]) -> None:
    """Restores the result of `state_tensors`, each tensor on the device of its parameter.

    Args:
        optimizer: new, of the same method.
        tensors: of `state_tensors`.

    Raises:
        InputError: names or shapes do not match the parameters.
    """
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        known = index.isdecimal() and len(index) < 10 and int(index) < len(parameters) and bool(name)
        if not known or (value.dim() > 0 and value.shape != parameters[int(index)].shape):
            raise InputError(f"the optimiser's state {key[:40]!r} of the checkpoint does not fit this network.")
        parameter = parameters[int(index)]
        on_host = name == "step"  # of Adam: a scalar that torch keeps on the CPU
        optimizer.state[parameter][name] = value if on_host else value.to(parameter.device)


def _parameters(optimizer: TorchOptimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
