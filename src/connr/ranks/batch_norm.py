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

from connr.ranks.exchange import Ranks


def synchronise(network: nn.Module, ranks: Ranks) -> None:
    """Has every batch norm within the network taken over all ranks; parameters, buffers and their names stay."""
    if ranks.count == 1:
        return
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place, but for a network that is itself a batch norm
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, BatchNormOverRanks(child, ranks))


def average(network: nn.Module, ranks: Ranks) -> None:
    """Gives batch norms that each rank keeps for itself the mean of all ranks' running statistics; others are left alone."""
    if ranks.count == 1:
        return
    for norm in network.modules():
        if isinstance(norm, _BatchNorm) and not isinstance(norm, BatchNormOverRanks | nn.SyncBatchNorm):
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(ranks.sum(statistic.clone()) / ranks.count)


class BatchNormOverRanks(_BatchNorm):
    """Takes the place, the parameters and the buffers of another batch norm."""

    def __init__(self, other: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(other.num_features, other.eps, other.momentum, other.affine, other.track_running_stats)
        self.weight, self.bias = other.weight, other.bias
        self.running_mean, self.running_var = other.running_mean, other.running_var
        self.num_batches_tracked = other.num_batches_tracked
        self.ranks = ranks

    def forward(self, given: Tensor) -> Tensor:
        """(b c ...) -> (b c ...), over b and all that follows c on all ranks; in `eval` as any other batch norm."""
        if not self.training:
            return F.batch_norm(given, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        rows = given if given.dtype == torch.float64 else given.float()
        across = [0, *range(2, rows.dim())]
        shape = (1, -1, *(1,) * (rows.dim() - 2))
        n_own = rows.numel() / rows.shape[1]
        own = rows.sum(dim=across) / max(1, n_own)  # of a batch smaller than the ranks are many, some have nothing
        spread = (rows - own.view(shape)).square().sum(dim=across)
        mean, variance, n = _Moments.apply(own, spread, n_own, self.ranks)
        centred: Tensor = rows - mean.view(shape)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * n / (n - 1), share)
        scale: Tensor = (variance + self.eps).rsqrt()
        if self.affine:
            return torch.addcmul(self.bias.view(shape), centred, (scale * self.weight).view(shape)).to(given.dtype)
        return (centred * scale.view(shape)).to(given.dtype)


class _Moments(torch.autograd.Function):
    """m_r, s_r (c) and n_r -> mean, var (c) and n of all ranks. The loss of each depends on them, so gradients add up."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, spread: Tensor, n_own: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
        told = ranks.gather(torch.cat([own.new_tensor([n_own]), own, spread]).unsqueeze(0), ranks.count)
        numbers, means, spreads = told.split([1, len(own), len(own)], dim=1)  # of each rank
        n = numbers.sum()
        mean = (numbers * means).sum(dim=0) / n
        variance = (spreads + numbers * (means - mean).square()).sum(dim=0) / n
        ctx.ranks, ctx.n_own = ranks, n_own
        ctx.save_for_backward(own - mean, n)
        ctx.mark_non_differentiable(n)
        return mean, variance, n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """d mean / d m_r = n_r / n,  d var / d m_r = 2 n_r (m_r - mean) / n,  d var / d s_r = 1 / n."""
        apart, n = ctx.saved_tensors
        by_mean, by_variance = ctx.ranks.sum(torch.stack(gradients[:2]))
        return ctx.n_own / n * (by_mean + 2 * apart * by_variance), by_variance / n, None, None
