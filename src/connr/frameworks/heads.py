"""Projector and predictor: Linear -> BatchNorm -> ReLU -> Linear."""

from torch import nn


def mlp(width: int, hidden: int, out: int, std: float | None = None) -> nn.Sequential:
    """A head (b width) -> (b out).

    Args:
        width: features in.
        hidden: width between, 4096 in the paper.
        out: features out, 256 in the paper.
        std: draw the linear weights from N(0, std) instead of torch's default; 0.01 for the paper's predictor.
    """
    first, last = nn.Linear(width, hidden), nn.Linear(hidden, out)
    if std is not None:
        nn.init.normal_(first.weight, std=std)
        nn.init.normal_(last.weight, std=std)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), last)
