"""Projectors and predictors: Linear layers with BatchNorm and ReLU between; fixed directions of classes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.errors import InputError


def mlp(width: int, hidden: int, out: int, std: float | None = None, batch_norm: bool = True) -> nn.Sequential:
    """A head of two layers (b width) -> (b out).

    Args:
        width: features in.
        hidden: width between, 4096 in the paper.
        out: features out, 256 in the paper.
        std: draw the linear weights from N(0, std) instead of torch's default; 0.01 for the paper's predictor.
        batch_norm: between the layers; MoCo v2's projector has none.
    """
    first, last = nn.Linear(width, hidden), nn.Linear(hidden, out)
    if std is not None:
        nn.init.normal_(first.weight, std=std)
        nn.init.normal_(last.weight, std=std)
    between = [nn.BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(first, *between, nn.ReLU(inplace=True), last)


def simsiam_projector(width: int, hidden: int, out: int, layers: int = 3) -> nn.Sequential:
    """SimSiam's projector (b width) -> (b out): BatchNorm after every layer, after the last one without scale and shift."""
    modules: list[nn.Module] = []
    for layer in range(layers - 1):
        modules += [
            nn.Linear(width if layer == 0 else hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*modules, nn.Linear(hidden, out, bias=False), nn.BatchNorm1d(out, affine=False))


def simplex(count: int, width: int) -> Float[Tensor, "K d"]:
    """Unit vectors as far apart as so many can be: every two have the inner product -1 / (K - 1).

    Args:
        count: K >= 1.
        width: d >= K - 1, numbers of each.

    Raises:
        InputError: there is no room for so many directions.
    """
    if width < count - 1:
        raise InputError(f"{count} clusters need embeddings of at least {count - 1} numbers, not {width}; set method.out.")
    rows = torch.zeros(count, width, dtype=torch.float64, device="cpu")
    for row in range(count):  # each is fixed by its products with those before it, and its length
        for at in range(min(row, count - 1)):
            rows[row, at] = (-1 / (count - 1) - rows[row] @ rows[at]) / rows[at, at]
        if row < max(1, count - 1):
            rows[row, row] = (1 - rows[row].square().sum()).sqrt()
    return rows.float()
