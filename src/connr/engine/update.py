"""One training step: loss, gradients, update of the weights.

Nothing here synchronises with the device: metrics stay tensors until the end of the epoch.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from connr.distributed import Communicator
from connr.engine.extraction import input_dtype
from connr.methods.method import Batch, Context, Method


def distributed(method: Method, communicator: Communicator, find_unused_parameters: bool) -> nn.Module:
    """The method, wrapped in DDP if there are several processes, which averages gradients during the backward pass.

    Args:
        method: to wrap.
        communicator: between the processes.
        find_unused_parameters: see `torch.nn.parallel.DistributedDataParallel`.
    """
    if communicator.count == 1:
        return method
    # Batch norms are synchronised, or averaged at the end of an epoch: DDP must not broadcast buffers.
    return DistributedDataParallel(method, broadcast_buffers=False, find_unused_parameters=find_unused_parameters)


def update(
    method: Method,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    context: Context,
    progress: float,
    *,
    step: nn.Module | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> dict[str, Tensor]:
    """Computes the loss and gradients of a batch, steps the optimiser and calls `Method.after_step`.

    Args:
        method: in training mode.
        optimizer: of its parameters.
        batch: the rows of this process; its views are converted to the precision of the weights.
        context: of the step.
        progress: share of all steps finished before this one, in [0, 1).
        step: the method wrapped in DDP; None for the method itself.
        backward: `Fabric.backward` for mixed precision.

    Returns:
        `loss`, `gradient` (the norm of the gradient) and the metrics of the step, averaged over the processes.
    """
    dtype = input_dtype(method)  # views are drawn in single precision
    batch = batch._replace(views={name: view.to(dtype) for name, view in batch.views.items()})
    output = (step or method)(batch, context)
    optimizer.zero_grad()
    backward(output.loss)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    metrics = {"loss": output.loss.detach(), **output.metrics}
    if context.communicator.count > 1:
        means = context.communicator.sum(torch.stack([metric.to(output.loss.dtype) for metric in metrics.values()]))
        metrics = dict(zip(metrics, means / context.communicator.count, strict=True))
    metrics["gradient"] = get_total_norm(gradients)
    optimizer.step()
    method.after_step(progress)
    return metrics
