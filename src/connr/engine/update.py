"""Lines 3-9 of Algorithm 1: two views of a batch -> one update of the networks.

Nothing here waits for the device: what a step tells stays a tensor until the end of the epoch.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils import get_total_norm

from connr import algorithm
from connr.distributed import SINGLE_PROCESS, Communicator
from connr.engine.extraction import input_dtype
from connr.frameworks import Framework
from connr.key_memory import KeyMemory


class Updated(NamedTuple):
    """What a step tells, of the batch of all ranks: its loss, the share of anchors kept, the norm of the gradient."""

    loss: Float[Tensor, ""]
    kept: Float[Tensor, ""]
    gradient: Float[Tensor, ""]


def update(
    framework: Framework,
    optimizer: torch.optim.Optimizer,
    views: tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]],
    indices: Int[Tensor, " b"],
    sockets: algorithm.Sockets,
    target_momentum: float,
    *,
    communicator: Communicator = SINGLE_PROCESS,
    batch_size: int | None = None,
    autocast: algorithm.Autocast = nullcontext,
    backward: Callable[[Tensor], None] = Tensor.backward,
    memory: KeyMemory | None = None,
    loss_scale: float = 1.0,
) -> Updated:
    """Loss, gradients, optimiser step, `framework.after_step`.

    Args:
        views, indices: of this rank's share of the batch.
        batch_size: of all ranks together; None where there is one.
        loss_scale: the loss is multiplied by it before the backward pass; the loss that is reported is not.
        others: as `algorithm.step`.
    """
    dtype = input_dtype(framework)
    views = views[0].to(dtype), views[1].to(dtype)
    n = len(indices) if batch_size is None else batch_size
    gather, first = partial(communicator.gather, total=n), communicator.share(n).start
    found = algorithm.step(framework, views, indices, sockets, gather, first, autocast, memory)
    optimizer.zero_grad()
    backward(found.loss if loss_scale == 1 else found.loss * loss_scale)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    loss = sum_gradients(gradients, found.loss.detach(), communicator)
    norm = get_total_norm(gradients)
    optimizer.step()
    framework.after_step(target_momentum)
    return Updated(loss, found.kept, norm)


def sum_gradients(gradients: list[Tensor], loss: Float[Tensor, ""], communicator: Communicator) -> Float[Tensor, ""]:
    """The loss of all ranks; the gradients become theirs in place. A sum, as the ranks' losses sum to the batch's.

    All travel in one message: it is the same on every rank to the bit, and so the weights stay.
    """
    if communicator.count == 1:
        return loss
    total = communicator.sum(torch.cat([*(gradient.flatten() for gradient in gradients), loss.view(1)]))
    parts = total[:-1].split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])
    return total[-1]
