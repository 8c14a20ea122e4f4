"""The keys of the batches before, as more images to look for neighbours among.

A batch of b images has b / K of a cluster. Where that is less than k, some of the k neighbours must be of other clusters,
however good the search is. The keys of the last m images serve as a larger pool: it has (b + m) / K of a cluster.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class KeyMemory(nn.Module):
    """The most recent keys, newest first, of each of the two directions of a step.

    The directions are apart, so that an image is in a pool once, and not once for each of its two views. The keys are part
    of the state dict.

    Args:
        size: m >= 1, keys remembered of each direction.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.keys: list[Tensor] = []

    def pool(self, direction: int, keys: Float[Tensor, "b d"], size: int) -> Float[Tensor, "p d"]:
        """The keys of a batch, and after them up to `size` of the batches before; the oldest are then dropped.

        Args:
            direction: 0 or 1, which of the two of a step.
            keys: (b d) of all processes; they are remembered for the next step.
            size: keys of earlier batches in the pool; 0 for none.
        """
        if len(self.keys) <= direction:
            self.keys.append(keys[:0])
        pool = torch.cat([keys, self.keys[direction][:size].to(keys)])  # those of a checkpoint are on the CPU
        self.keys[direction] = pool[: self.size]
        return pool

    def clear(self) -> None:
        """Forgets all keys."""
        self.keys = []

    def get_extra_state(self) -> Tensor:
        """(2 m d), or nothing."""
        return torch.stack(self.keys) if len(self.keys) == 2 else torch.empty(0)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave.

        Raises:
            ValueError: it is not that of a memory of this size.
        """
        empty = state.ndim == 1 and len(state) == 0
        if not (empty or (state.ndim == 3 and len(state) == 2 and state.shape[1] <= self.size)):
            raise ValueError(f"the memory of keys has shape {list(state.shape)}, should be [2, m, d] with m <= {self.size}")
        self.keys = [] if empty else list(state.clone())
