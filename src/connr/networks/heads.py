"""Projectors and predictors: Linear layers with BatchNorm and ReLU between."""

from torch import nn


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
