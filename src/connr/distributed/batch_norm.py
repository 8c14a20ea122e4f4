"""Batch norm over the global batch, so that the output of a network does not depend on the number of processes.

For one channel, rank r has n_r values with mean m_r and s_r = sum (x - m_r)^2. Over all ranks (Chan et al., 1979)

    n = sum n_r,   mean = sum n_r m_r / n,   var = sum (s_r + n_r (m_r - mean)^2) / n,

The forward pass gathers all three in one exchange; the backward pass sums the gradients of mean and var in one exchange.
Unlike E x^2 - (E x)^2, this does not subtract large numbers from each other.

On GPUs torch's `SyncBatchNorm` is used. It does not support CPU tensors, so the CPU version is implemented here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from connr.distributed.communicator import Communicator


def synchronise(network: nn.Module, communicator: Communicator) -> None:
    """Replaces every batch norm within the network by a synchronised one.

    Parameters, buffers and their names do not change.

    Args:
        network: modified in place.
        communicator: between the processes; with one process nothing changes.
    """
    if communicator.count == 1:
        return
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place, unless the network itself is a batch norm
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SyncedBatchNorm(child, communicator))


def average(network: nn.Module, communicator: Communicator) -> None:
    """Sets the running statistics of unsynchronised batch norms to their mean over the ranks.

    Args:
        network: modified in place; synchronised batch norms are left unchanged.
        communicator: between the processes.
    """
    if communicator.count == 1:
        return
    for norm in network.modules():
        if isinstance(norm, _BatchNorm) and not isinstance(norm, SyncedBatchNorm | nn.SyncBatchNorm):
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(communicator.sum(statistic.clone()) / communicator.count)


class SyncedBatchNorm(_BatchNorm):
    """Synchronised batch norm on the CPU; shares parameters and buffers with the batch norm it replaces.

    Args:
        other: the batch norm to replace.
        communicator: between the processes.
    """

    def __init__(self, other: _BatchNorm, communicator: Communicator) -> None:
        super().__init__(other.num_features, other.eps, other.momentum, other.affine, other.track_running_stats)
        self.weight, self.bias = other.weight, other.bias
        self.running_mean, self.running_var = other.running_mean, other.running_var
        self.num_batches_tracked = other.num_batches_tracked
        self.communicator = communicator

    def forward(self, inputs: Tensor) -> Tensor:
        """(b c ...) -> (b c ...), normalised over b and the dimensions after c on all ranks; a usual batch norm in eval."""
        if not self.training:
            return F.batch_norm(inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        rows = inputs if inputs.dtype == torch.float64 else inputs.float()
        shape = (1, -1, *(1,) * (rows.dim() - 2))
        outputs: tuple[Tensor, ...] = _Centred.apply(rows, self.communicator)
        centred, variance, mean, n = outputs
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * n / (n - 1), share)
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            return torch.addcmul(self.bias.view(shape), centred, (scale * self.weight).view(shape)).to(inputs.dtype)
        return (centred * scale.view(shape)).to(inputs.dtype)


class _Centred(torch.autograd.Function):
    """x (b c ...) -> x - mean, var (c), mean (c), n. The loss of every rank depends on mean and var: gradients are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, communicator: Communicator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims, shape = [0, *range(2, rows.dim())], (1, -1, *(1,) * (rows.dim() - 2))
        n_local = rows.numel() / rows.shape[1]
        local = rows.sum(dim=dims) / max(1, n_local)  # with fewer rows than ranks, some ranks have none
        spread = (rows - local.view(shape)).square_().sum(dim=dims)
        statistics = torch.cat([local.new_tensor([n_local]), local, spread])
        gathered = communicator.gather(statistics.unsqueeze(0), communicator.count)
        counts, means, spreads = gathered.split([1, len(local), len(local)], dim=1)  # one row per rank
        n = counts.sum()
        mean = (counts * means).sum(dim=0) / n
        variance = (spreads + counts * (means - mean).square()).sum(dim=0) / n
        centred = rows - mean.view(shape)
        ctx.communicator, ctx.dims, ctx.shape = communicator, dims, shape
        ctx.save_for_backward(centred, n)
        ctx.mark_non_differentiable(mean, n)
        return centred, variance, mean, n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """d mean / d x = 1 / n,  d var / d x = 2 (x - mean) / n."""
        (centred, n), grad_centred = ctx.saved_tensors, gradients[0]
        grad_minus_mean, grad_variance = ctx.communicator.sum(torch.stack([grad_centred.sum(dim=ctx.dims), gradients[1]])) / n
        return grad_centred - grad_minus_mean.view(ctx.shape) + 2 * centred * grad_variance.view(ctx.shape), None
