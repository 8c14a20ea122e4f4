"""Batch norm over the batch of all ranks, so that what a network computes does not depend on how many there are.

Of the n_r numbers of a channel that rank r has, m_r is the mean and s_r = sum (x - m_r)^2. Over all ranks (Chan et al., 1979)

    n = sum n_r,   mean = sum n_r m_r / n,   var = sum (s_r + n_r (m_r - mean)^2) / n,

one exchange forward, of all three, and one backward, of the gradients by mean and var. No large numbers are subtracted,
as in E x^2 - (E x)^2.

torch's `SyncBatchNorm` does this on GPUs and is used there; it refuses CPU tensors, so on a CPU it is done here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from connr.distributed.communicator import Communicator


def synchronise(network: nn.Module, communicator: Communicator) -> None:
    """Has every batch norm within the network taken over all ranks; parameters, buffers and their names stay."""
    if communicator.count == 1:
        return
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place, but for a network that is itself a batch norm
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SyncedBatchNorm(child, communicator))


def average(network: nn.Module, communicator: Communicator) -> None:
    """Gives batch norms that each rank keeps for itself the mean of all ranks' running statistics; others are left alone."""
    if communicator.count == 1:
        return
    for norm in network.modules():
        if isinstance(norm, _BatchNorm) and not isinstance(norm, SyncedBatchNorm | nn.SyncBatchNorm):
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(communicator.sum(statistic.clone()) / communicator.count)


class SyncedBatchNorm(_BatchNorm):
    """Takes the place, the parameters and the buffers of another batch norm."""

    def __init__(self, other: _BatchNorm, communicator: Communicator) -> None:
        super().__init__(other.num_features, other.eps, other.momentum, other.affine, other.track_running_stats)
        self.weight, self.bias = other.weight, other.bias
        self.running_mean, self.running_var = other.running_mean, other.running_var
        self.num_batches_tracked = other.num_batches_tracked
        self.communicator = communicator

    def forward(self, given: Tensor) -> Tensor:
        """(b c ...) -> (b c ...), over b and all that follows c on all ranks; in `eval` as any other batch norm."""
        if not self.training:
            return F.batch_norm(given, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        rows = given if given.dtype == torch.float64 else given.float()
        shape = (1, -1, *(1,) * (rows.dim() - 2))
        of_all: tuple[Tensor, ...] = _Centred.apply(rows, self.communicator)
        centred, variance, mean, n = of_all
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * n / (n - 1), share)
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            return torch.addcmul(self.bias.view(shape), centred, (scale * self.weight).view(shape)).to(given.dtype)
        return (centred * scale.view(shape)).to(given.dtype)


class _Centred(torch.autograd.Function):
    """x (b c ...) -> x - mean, var (c), mean (c), n. Every rank's loss depends on mean and var, so their gradients add up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, communicator: Communicator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        across, shape = [0, *range(2, rows.dim())], (1, -1, *(1,) * (rows.dim() - 2))
        n_own = rows.numel() / rows.shape[1]
        own = rows.sum(dim=across) / max(1, n_own)  # of a batch smaller than the ranks are many, some have nothing
        spread = (rows - own.view(shape)).square_().sum(dim=across)
        told = communicator.gather(torch.cat([own.new_tensor([n_own]), own, spread]).unsqueeze(0), communicator.count)
        numbers, means, spreads = told.split([1, len(own), len(own)], dim=1)  # of each rank
        n = numbers.sum()
        mean = (numbers * means).sum(dim=0) / n
        variance = (spreads + numbers * (means - mean).square()).sum(dim=0) / n
        centred = rows - mean.view(shape)
        ctx.communicator, ctx.across, ctx.shape = communicator, across, shape
        ctx.save_for_backward(centred, n)
        ctx.mark_non_differentiable(mean, n)
        return centred, variance, mean, n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """d mean / d x = 1 / n,  d var / d x = 2 (x - mean) / n."""
        (centred, n), by_centred = ctx.saved_tensors, gradients[0]
        by_minus_mean, by_variance = ctx.communicator.sum(torch.stack([by_centred.sum(dim=ctx.across), gradients[1]])) / n
        return by_centred - by_minus_mean.view(ctx.shape) + 2 * centred * by_variance.view(ctx.shape), None
