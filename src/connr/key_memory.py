"""The keys of the batches before, as more images to look for neighbours among.

A batch of b images has b / K of a cluster. Where that is less than k, some of the k neighbours must be of other clusters,
however good the search is. The keys of the last m images serve as a larger pool: it has (b + m) / K of a cluster.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class KeyMemory:
    """The most recent keys, newest first, of each of the two directions of a step.

    The directions are apart, so that an image is in a pool once, and not once for each of its two views.

    Args:
        size: m >= 0, keys remembered of each direction; 0 for none.
        keys: (m d) of either direction, to go on from, or nothing; what is beyond `size` is forgotten.

    Attributes:
        keys: (m d) of either direction, none before the first step.
    """

    def __init__(self, size: int = 0, keys: Sequence[Tensor] = ()) -> None:
        self.size = size
        self.keys: list[Tensor] = [part[:size] for part in keys] if size else []

    def pool(self, direction: int, keys: Float[Tensor, "b d"]) -> Float[Tensor, "p d"]:
        """The keys of a batch, and after them those of the batches before; the oldest beyond `size` are then forgotten.

        Args:
            direction: 0 or 1, which of the two of a step.
            keys: (b d) of all ranks; they are remembered for the next step.

        Returns:
            (b + m d), the batch first, then the newest keys first.
        """
        if not self.size:
            return keys
        if len(self.keys) <= direction:
            self.keys.append(keys[:0])
        pool = torch.cat([keys, self.keys[direction]])
        self.keys[direction] = pool[: self.size]
        return pool
