"""Eqs. 3-7 with sparse matrices, in memory O(n k): for large batches on a CPU, and for whole data sets.

A has at most 2 k1 entries a row, and a round of propagation adds up k2 rows: H stays sparse, and so do the scores H H^T, of
which a block of rows at a time is made and ranked. Relations are numbered so that neighbours lie near one another (reverse
Cuthill-McKee), which keeps the products in the cache: 60,000 images take half the time.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from connr.neighbours.nearest import cosines_at_zero, largest

PRODUCTS = 1 << 22  # numbers multiplied in a block of scores; those that remain are a few times fewer, and stay in the cache
CHUNKS = 4  # times k: that many chunks of a row have their maxima taken, on average


def refine(
    neighbours: Int[Tensor, "n m"],
    similarities: Float[Tensor, "n m"],
    features: Float[Tensor, "n d"],
    k: int,
    k1: int,
    k2: int,
    alpha: float,
    layers: int,
    digits: int,
) -> Int[Tensor, "n k"]:
    """The k contextually nearest of each image, itself first, ties as in `contextual`, from its nearest by similarity.

    Args:
        neighbours: (n m), m >= max(k1, k2), the image itself first, by falling similarity; with m >= k it takes less time
            where fewer than k images are related to one.
        similarities: (n m), of these.
        features: (n d).
        k, k1, k2, alpha, layers: of `contextual`.
        digits: binary digits after the point that scores are rounded to before they are ranked.
    """
    found, edges = neighbours.cpu().numpy(), similarities[:, :k2].double().cpu().numpy()
    if alpha != int(alpha):
        edges = edges.clip(min=0)  # a fractional power of a negative cosine is not a number
    relations = _matrix(found[:, :k1], np.full((len(found), k1), 0.5))
    relations.data[:] = 0.5  # also where an approximate search names one twice
    adjacency = relations + relations.T
    order = reverse_cuthill_mckee(adjacency, symmetric_mode=True)
    near = np.empty_like(order)
    near[order] = np.arange(len(order), dtype=order.dtype)
    messages = _matrix(near[found[order, :k2]], edges[order] ** alpha)
    nodes = propagate(adjacency[order][:, order], messages, layers)
    nearest = np.empty((len(found), k), dtype=np.int64)
    nearest[order] = ranked(nodes, k, order.astype(np.int64), digits, Unrelated(features, found))
    return torch.from_numpy(nearest).to(neighbours.device)


def propagate(nodes: sp.csr_array, messages: sp.csr_array, layers: int) -> sp.csr_array:
    """H of Eq. 6 after `layers` rounds."""
    for _ in range(layers):
        nodes = messages @ (nodes + nodes.T)
        lengths = np.sqrt(np.add.reduceat(nodes.data**2, nodes.indptr[:-1]))  # no row is empty: an image relates to itself
        nodes.data /= np.repeat(lengths.clip(min=1e-12), np.diff(nodes.indptr))
    return nodes


class Unrelated:
    """The images that have a score of 0 with one, by falling cosine, ties by index."""

    def __init__(self, features: Float[Tensor, "n d"], neighbours: NDArray[np.int64]) -> None:
        """`neighbours`: (n m), the nearest of each image by cosine, in order."""
        self.features, self.neighbours = features.detach(), neighbours

    def __call__(self, image: int, others: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """`count` of them, or all if they are fewer; `others`: those with another score, and the image itself."""
        near = self.neighbours[image]
        near = near[~np.isin(near, others)]
        if len(near) < count:
            scores = self.features.new_zeros(1, len(self.features))
            scores[0, torch.from_numpy(others)] = -1
            row = torch.tensor([image], device=self.features.device)
            found = largest(cosines_at_zero(scores, row, self.features), min(count, len(self.features) - len(others)))
            near = found[0].cpu().numpy()
        first: NDArray[np.int64] = near[:count]
        return first


def ranked(nodes: sp.csr_array, k: int, names: NDArray[np.int64], digits: int, unrelated: Unrelated) -> NDArray[np.int64]:
    """The k largest of each row of H H^T (Eq. 7), rounded; `names` identify the columns and break ties."""
    across = nodes.T.tocsr()
    multiplied = np.add.reduceat(np.diff(across.indptr)[nodes.indices], nodes.indptr[:-1], dtype=np.int64)
    products = np.concatenate([[0], np.cumsum(multiplied)])
    cuts = np.unique(np.searchsorted(products, np.arange(0, products[-1] + PRODUCTS, PRODUCTS)).clip(max=nodes.shape[0]))
    cuts = np.unique(np.concatenate([[0], cuts, [nodes.shape[0]]]))

    def block(at: int) -> NDArray[np.int64]:
        rows = slice(cuts[at], cuts[at + 1])
        return best(nodes[rows] @ across, k, names[rows], names, digits, unrelated)

    if len(cuts) == 2:
        return block(0)
    with ThreadPoolExecutor(min(torch.get_num_threads(), os.cpu_count() or 1)) as threads:  # scipy releases the GIL
        return np.concatenate(list(threads.map(block, range(len(cuts) - 1))))


def best(
    scores: sp.csr_array,
    k: int,
    anchors: NDArray[np.int64],
    names: NDArray[np.int64],
    digits: int,
    unrelated: Callable[[int, NDArray[np.int64], int], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """The k largest entries of each row, the anchor first, then by falling score, ties by name; what is not stored is 0.

    Those of 0 are in the order of `unrelated`.
    """
    chosen, scale = np.full((len(anchors), k), -1), 2.0**digits
    chosen[:, 0] = anchors
    row, value, name = _candidates(scores, k, scale)
    name = names[name]
    others = (value > 0) & (name != anchors[row])
    row, value, name = row[others], value[others], name[others]
    by_rank = np.lexsort((name, -value, row))
    row, name = row[by_rank], name[by_rank]
    place = np.arange(len(row)) - np.searchsorted(row, row) + 1
    row, place, name = row[place < k], place[place < k], name[place < k]
    chosen[row, place] = name
    for short in (chosen[:, -1] < 0).nonzero()[0]:  # too few have a score above 0: those with 0, then those below
        part = slice(scores.indptr[short], scores.indptr[short + 1])
        stored, rounded = names[scores.indices[part]], np.rint(scores.data[part] * scale)
        known = int((chosen[short] >= 0).sum())
        others = np.union1d(stored[rounded != 0], anchors[short])
        zeros = unrelated(int(anchors[short]), others, k - known)
        below = stored[rounded < 0][np.lexsort((stored[rounded < 0], -rounded[rounded < 0]))]
        chosen[short, known:] = np.concatenate([zeros, below[below != anchors[short]]])[: k - known]
    return chosen


def _candidates(
    scores: sp.csr_array, k: int, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Row, rounded score and column of all entries that may be among the k largest of their row, and of few others.

    The k-th largest of the maxima over chunks of a row is a bound: k entries reach it.
    """
    counts = np.diff(scores.indptr).astype(np.int64)
    size = max(4, int(counts.mean()) // (CHUNKS * k))
    chunks = -(-counts // size)
    row = np.repeat(np.arange(len(counts)), chunks)
    within = np.arange(len(row)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    start = scores.indptr[row] + size * within
    most = np.maximum.reduceat(scores.data, start) if len(start) else scores.data[:0]
    bounds = np.full(len(counts), -np.inf)
    enough = chunks >= k
    if enough.any():
        table = np.full((len(counts), int(chunks.max())), -np.inf)
        table[row, within] = most
        bounds[enough] = np.partition(table[enough], table.shape[1] - k, axis=1)[:, table.shape[1] - k]
    bounds = np.rint(bounds * scale)
    likely = (np.rint(most * scale) >= bounds[row]).nonzero()[0]
    entries = start[likely, None] + np.arange(size)
    inside = entries < scores.indptr[row[likely] + 1, None]
    row, entries = np.broadcast_to(row[likely, None], entries.shape)[inside], entries[inside]
    value = np.rint(scores.data[entries] * scale)
    kept = value >= bounds[row]
    return row[kept], value[kept], scores.indices[entries[kept]].astype(np.int64)


def _matrix(columns: NDArray[np.integer], values: NDArray[np.float64]) -> sp.csr_array:
    """(n n), row i holding values[i] in columns[i]."""
    n, m = columns.shape
    starts = np.arange(0, n * m + 1, m, dtype=np.int32)  # else scipy makes wide integers of all of them
    matrix = sp.csr_array((values.ravel(), columns.ravel().astype(np.int32), starts), shape=(n, n))
    matrix.sum_duplicates()
    return matrix
