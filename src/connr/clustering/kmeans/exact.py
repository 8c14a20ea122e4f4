"""Sums with the same bits in any order, and so on any number of ranks: points on a grid that doubles add up exactly."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 1 << 20  # elements of a temporary: 4 MiB in float32


def precise(tensor: Tensor) -> torch.dtype:
    """The type of sums: double, but on MPS, which has none."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def rounding(squares: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """What rounding can leave of the squared distance of each point to itself; squares = |x|^2."""
    return 16 * torch.finfo(squares.dtype).eps * squares


def on_grid(points: Float[Tensor, "n d"], total: int) -> Float[Tensor, "n d"]:
    """Points in -1..1, rounded in place so that any `total` of them add up exactly in a double (60,000: to 2^-36)."""
    steps = 2.0 ** (52 - math.ceil(math.log2(total)))
    return points.mul_(steps).round_().div_(steps)


def column_sums(points: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Over the rows, in double precision; in blocks, as torch would convert the whole or add up element by element."""
    total = torch.zeros(points.shape[1], dtype=precise(points), device=points.device)
    for rows in points.split(max(1, BLOCK // points.shape[1])):
        total += rows.to(total.dtype).sum(dim=0)
    return total
