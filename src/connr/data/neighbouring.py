"""Rows of features with their nearest neighbours in the data set, combined on access."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.data.rows import Rows


class WithNeighbours:
    """Rows (1+V+k, d): row i itself, its V cached views if any, and its k nearest neighbours.

    Args:
        rows: (n d) or (n 1+V d), the row itself first.
        plain: (n d), the rows themselves, in memory.
        neighbours: (n k), indices of the neighbours of each row, without the row itself.
    """

    device = torch.device("cpu")

    def __init__(self, rows: Rows, plain: Float[Tensor, "n d"], neighbours: Int[Tensor, "n k"]) -> None:
        self.source, self.plain, self.neighbours = rows, plain, neighbours
        width = 1 if len(rows.shape) == 2 else rows.shape[1]
        self.shape = torch.Size((len(plain), width + neighbours.shape[1], plain.shape[1]))
        self.dtype = plain.dtype

    def __len__(self) -> int:
        return len(self.plain)

    def __getitem__(self, index: slice | Int[Tensor, " b"]) -> Float[Tensor, "b m d"]:
        own = self.source[index]
        own = own.unsqueeze(1) if own.ndim == 2 else own
        return torch.cat([own, self.plain[self.neighbours[index]].to(own.dtype)], dim=1)


def nearest_rows(rows: Float[Tensor, "n d"], k: int) -> Int[Tensor, "n k"]:
    """The k nearest other rows of each row by Euclidean distance, exact.

    Args:
        rows: (n d), n > k.
        k: number of neighbours, >= 1.
    """
    from sklearn.neighbors import NearestNeighbors

    n, values = len(rows), rows.float().numpy()
    index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(values)
    found = torch.from_numpy(np.ascontiguousarray(index.kneighbors(values, return_distance=False)))
    itself = found == torch.arange(n).unsqueeze(1)
    itself[~itself.any(dim=1), -1] = True  # more than k duplicates: drop the last one
    return found[~itself].view(n, k)
