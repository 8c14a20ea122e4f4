"""The nearest neighbours of every row, nearly all of them right: for data sets too large to compare each with each.

By a hierarchical graph (HNSW; Malkov and Yashunin 2018) of faiss, which is optional: `pip install "connr[ann]"`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from connr.errors import InputError
from connr.neighbours.blockwise import Nearest
from connr.neighbours.nearest import round_


def nearest_approximately(features: Float[Tensor, "n d"], m: int, links: int = 32, effort: int = 64) -> Nearest:
    """As `nearest_blockwise`, in time n log n; itself is always first, of the others a few may be missed.

    Where too few are found, the row itself fills their places, with similarity 0.

    Args:
        features: (n d), L2-normalised rows.
        m: 1 <= m <= n.
        links: of each row in the graph; more find more, and take more memory.
        effort: rows looked at on the way to the nearest, at least m.

    Raises:
        InputError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as fault:
        raise InputError('approximate neighbours need faiss: pip install "connr[ann]".') from fault
    faiss.omp_set_num_threads(torch.get_num_threads())
    rows = features.detach().float().cpu().contiguous().numpy()
    index = faiss.IndexHNSWFlat(rows.shape[1], links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = max(effort, m + 1)
    index.add(rows)
    similarities, indices = (torch.from_numpy(found) for found in index.search(rows, min(m + 1, len(rows))))
    similarities = round_(similarities)
    anchors = torch.arange(len(rows)).unsqueeze(1)
    nothing = (indices < 0) | (indices == anchors)  # faiss may find a copy of a row and not the row itself, or too few
    order = similarities.masked_fill(nothing, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, : m - 1]
    indices = torch.where(nothing, anchors, indices).gather(1, order)
    similarities = similarities.masked_fill(nothing, 0.0).gather(1, order)
    indices, similarities = torch.cat([anchors, indices], dim=1), torch.cat([torch.ones(len(rows), 1), similarities], dim=1)
    return Nearest(indices.to(features.device), similarities.to(features))
