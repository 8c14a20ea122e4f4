"""Parameters of a network by depth, for layer-wise learning rates."""

import re

from torch import nn

BLOCK = re.compile(r"^(?:[^.\d]*\.)*?[^.]*\d[^.]*")  # the name up to its first number: layer1, blocks.3, features.0


def parameters_by_depth(network: nn.Module, first: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Groups of trained parameters with learning rate factors: `first` for the first block, geometrically rising to 1.

    A block is what shares a name up to its first number, as `layer1` or `blocks.3`; where there is none, a module.
    """
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            found = BLOCK.match(name)
            blocks.setdefault(found[0] if found else name.rpartition(".")[0] or name, []).append(parameter)
    last = max(1, len(blocks) - 1)
    return [(first ** (1 - depth / last), parameters) for depth, parameters in enumerate(blocks.values())]
