"""Eqs. 3-7: neighbours in a contextual space, where images with similar relations are near.

A_ij  = (R_ij + R_ji) / 2,  R_ij = [j among i's k1 nearest]                     (3)
h_i   = A_i,  e_ij = <f_i, f_j> for j among i's k2 nearest, i itself first      (4-5)
H     <- H + H^T;  h_i <- sum_j e_ij^alpha h_j;  h_i <- h_i / |h_i|    L times  (6)
N^a(i, k) = the k nearest of i by H H^T                                         (7)
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.neighbourhoods.blockwise import Nearest, nearest_blockwise
from connr.neighbourhoods.nearest import check_sizes, nearest
from connr.neighbourhoods.sparse import refine

DENSE_TO = 8192  # images; a matrix of so many squared takes 268 MB, and six of them are needed
WORTH_IT = 10  # a sparse product is no gain until rows are so many times longer than their entries are many (2 cores, AVX-512)


def contextual(
    features: Float[Tensor, "b d"],
    k: int = 10,
    k1: int = 10,
    k2: int = 2,
    alpha: float = 2.0,
    layers: int = 2,
    sparse: bool | None = None,
    search: Callable[[Tensor, int], Nearest] = nearest_blockwise,
) -> Int[Tensor, "b k"]:
    """The contextually affinitive neighbourhood of each image (Eqs. 3-7).

    Args:
        features: (b d), L2-normalised rows; a batch, or a whole data set.
        k: neighbours returned per image, 1 <= k <= b, the image itself being the first.
        k1: neighbours that make the reciprocal relations (Eq. 3), 1 <= k1 <= b.
        k2: neighbours that messages come from (Eqs. 5-6), 1 <= k2 <= b, far fewer than k1.
        alpha: exponent of the edge weights (Eq. 6), >= 0.
        layers: rounds of propagation (Eq. 6), >= 0.
        sparse: memory O(b k) instead of O(b^2), and from about a thousand images on sooner, on a CPU in any case; None
            takes what is sooner, never waiting for a GPU. The result is the same but where float32 cannot tell scores apart.
        search: finds the nearest by similarity where it is sparse: all of them, or beyond some hundred thousand images
            `connr.neighbourhoods.approximate.nearest_approximately`.

    Returns:
        (b k) int64, contextually nearest first, ties by index.

    Raises:
        ValueError: k, k1 or k2 is not between 1 and b.
    """
    check_sizes(len(features), k=k, k1=k1, k2=k2)
    digits = 40 if features.dtype == torch.float64 else 20
    if sparse is None:
        entries = k1 * (1 + k2) ** layers  # of a row of H, about
        sparse = features.device.type == "cpu" and (len(features) > DENSE_TO or len(features) > WORTH_IT * entries)
    if sparse:
        return refine(*search(features, max(k1, k2)), k, k1, k2, alpha, layers, digits)
    similarity = (features @ features.T).fill_diagonal_(1.0)  # e_ii = 1, free of rounding
    by_similarity = nearest(similarity, max(k1, k2))
    adjacency = reciprocal_adjacency(by_similarity[:, :k1]).to(similarity.dtype)
    refined = propagate(adjacency, similarity, by_similarity[:, :k2], alpha, layers)
    # Images with the same relations tie exactly: what is left of that by rounding must not decide between them.
    return nearest((refined @ refined.T * 2**digits).round_(), k)


def reciprocal_adjacency(neighbours: Int[Tensor, "b k1"]) -> Float[Tensor, "b b"]:
    """A of Eq. 3: 1 where two images are each among the other's k1 nearest, 1/2 where one is, else 0."""
    b = len(neighbours)
    relations = torch.zeros(b, b, device=neighbours.device).scatter_(1, neighbours, 1.0)
    return (relations + relations.T) / 2


def propagate(
    nodes: Float[Tensor, "b b"], similarity: Float[Tensor, "b b"], sources: Int[Tensor, "b k2"], alpha: float, layers: int
) -> Float[Tensor, "b b"]:
    """H of Eq. 6 after `layers` rounds of alpha-weighted query expansion along the edges i <- sources[i] (Eq. 5)."""
    edges = similarity.gather(1, sources)
    if alpha != int(alpha):
        edges = edges.clamp(min=0)  # a fractional power of a negative cosine is not a number
    weights = torch.zeros_like(nodes).scatter_(1, sources, edges**alpha)
    for _ in range(layers):
        nodes = F.normalize(weights @ (nodes + nodes.T), dim=1)
    return nodes
