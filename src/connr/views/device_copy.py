"""What is drawn on the CPU, onto the device of the images."""

import torch
from torch import Tensor


def to_device(device: torch.device, drawn: Tensor) -> Tensor:
    """The few numbers on the device. A GPU's host does not wait: a plain copy from ordinary memory would, dozens a step."""
    return drawn.to(device, non_blocking=device.type == "cuda")
