"""Strided 1x1 convolutions as a slice and an unstrided one, as oneDNN corrupts memory in the backward pass of strided ones.

https://github.com/uxlfoundation/oneDNN/issues/6035 (torch 2.15.0 with oneDNN 3.13.3): on channels-last images with fewer
channels than a vector has numbers (16 with AVX-512, 8 with AVX2), the weights' gradient is written past the end of its buffer.
The process crashes or continues with corrupted memory. The slice costs no time.
"""

import torch.nn.functional as F
from torch import Tensor, nn

UNPADDED = ((0, 0), "valid")


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution of any stride without padding; same results, parameters and names as `nn.Conv2d`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        if input.device.type != "cpu":
            return super().forward(input)
        down, right = self.stride
        return F.conv2d(input[..., ::down, ::right], self.weight, self.bias, groups=self.groups)


def without_strided_pointwise(network: nn.Module) -> nn.Module:
    """Replaces strided 1x1 convolutions of a network in place by `StridedPointwise`, with their parameters and hooks."""
    for module in network.modules():
        pointwise = type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.padding in UNPADDED
        if pointwise and module.stride != (1, 1):
            module.__class__ = StridedPointwise
    return network
