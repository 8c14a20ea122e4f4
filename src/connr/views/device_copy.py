"""Copies random parameters from the CPU to the device of the images."""

import torch
from torch import Tensor


def to_device(device: torch.device, drawn: Tensor) -> Tensor:
    """The tensor on the device. Asynchronous on GPUs, as there are dozens of such copies per step."""
    return drawn.to(device, non_blocking=device.type == "cuda")
