"""Eqs. 3-7: neighbours in a contextual space, where images with similar relations are near.

A_ij  = (R_ij + R_ji) / 2,  R_ij = [j among i's k1 nearest]                     (3)
h_i   = A_i,  e_ij = <f_i, f_j> for j among i's k2 nearest, i itself first      (4-5)
H     <- H + H^T;  h_i <- sum_j e_ij^alpha h_j;  h_i <- h_i / |h_i|    L times  (6)
N^a(i, k) = the k nearest of i by H H^T; those unrelated, with a score of 0, by cosine (7)
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.neighbours.blockwise import Nearest, nearest_blockwise
from connr.neighbours.nearest import check_sizes, cosines_at_zero, digits, largest, round_, similarities
from connr.neighbours.neighbourhood import Neighbourhood, NeighbourhoodConfig
from connr.neighbours.sparse import refine
from connr.recipe.section import Count, Layers, NonNegative
from connr.registry import NEIGHBOURHOODS

DENSE_TO = 8192  # images; six matrices of DENSE_TO x DENSE_TO, 268 MB each, are needed
WORTH_IT = 10  # sparse products are faster from this ratio of row length to entries per row on (2 cores, AVX-512)


@NEIGHBOURHOODS.register("contextual")
class ContextualConfig(NeighbourhoodConfig):
    """Eqs. 3-7; the numbers are those of `contextual`."""

    name: Literal["contextual"] = "contextual"
    k: Count = 10
    k1: Count = 10
    k2: Count = 2
    alpha: NonNegative = 2.0
    layers: Layers = 2

    def build(self) -> Neighbourhood:
        return partial(contextual, **self.model_dump(exclude={"name"}))


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
            `connr.neighbours.approximate.nearest_approximately`.

    Returns:
        (b k) int64, contextually nearest first, ties by index. Where fewer than k images are related to one (their score is
        above 0), those with a score of 0 follow by falling cosine, ties by index.

    Raises:
        ValueError: k, k1 or k2 is not between 1 and b.
    """
    check_sizes(len(features), k=k, k1=k1, k2=k2)
    if sparse is None:
        entries = k1 * (1 + k2) ** layers  # of a row of H, about
        sparse = features.device.type == "cpu" and (len(features) > DENSE_TO or len(features) > WORTH_IT * entries)
    if sparse:
        return refine(*search(features, max(k, k1, k2)), features, k, k1, k2, alpha, layers, digits(features.dtype))
    # A batch is small: allocating memory costs more than computing, so matrices are overwritten.
    features = features.detach()
    similarity = similarities(features)
    by_similarity = largest(similarity.fill_diagonal_(torch.inf), max(k1, k2))
    similarity.fill_diagonal_(1.0)  # e_ii = 1, free of rounding
    adjacency = reciprocal_adjacency(by_similarity[:, :k1]).to(similarity.dtype)
    refined = propagate(adjacency, similarity, by_similarity[:, :k2], alpha, layers)
    # Images with the same relations tie exactly: what is left of that by rounding must not decide between them.
    scores = torch.mm(refined, refined.T, out=similarity)
    scores = round_(scores) if layers else scores.mul_(4).round_()  # rows of H have length 1; those of A hold halves
    scores.fill_diagonal_(torch.inf)
    found = largest(scores, k)
    # With k <= k1 and weights that are not negative all k scores are above 0, and a GPU need not be waited for.
    if k > k1 or alpha % 2 == 1 or features.device.type == "cpu":
        short = torch.from_numpy(np.flatnonzero(scores.gather(1, found[:, -1:]).cpu().numpy() <= 0)).to(found.device)
        if len(short):
            found[short] = largest(cosines_at_zero(scores[short], short, features), k)
    return found


def reciprocal_adjacency(neighbours: Int[Tensor, "b k1"]) -> Float[Tensor, "b b"]:
    """A of Eq. 3: 1 where two images are each among the other's k1 nearest, 1/2 where one is, else 0."""
    b = len(neighbours)
    half = torch.zeros(b, b, device=neighbours.device).scatter_(1, neighbours, 0.5)
    return half + half.T


def propagate(
    nodes: Float[Tensor, "b b"], similarity: Float[Tensor, "b b"], sources: Int[Tensor, "b k2"], alpha: float, layers: int
) -> Float[Tensor, "b b"]:
    """H of Eq. 6 after `layers` rounds of alpha-weighted query expansion along the edges i <- sources[i] (Eq. 5).

    Args:
        nodes: A of Eq. 3; it may be overwritten.
        similarity: e, 1 on its diagonal.
        sources: i itself being the first of row i.
    """
    edges = similarity.gather(1, sources)
    if alpha != int(alpha):
        edges = edges.clamp(min=0)  # a fractional power of a negative cosine is not a number
    weights = edges**alpha
    for layer in range(layers):
        symmetric = nodes + nodes.T if layer else nodes  # A + A^T = 2 A, and normalising forgets the 2
        # Row by row: of a matrix of weights only k2 entries in a row are not 0, and that of the node itself is 1.
        nodes = symmetric
        for source, weight in zip(sources.T[1:], weights.T[1:], strict=True):
            nodes = torch.addcmul(nodes, symmetric.index_select(0, source), weight.unsqueeze(1))
        nodes.div_(torch.linalg.vector_norm(nodes, dim=1, keepdim=True).clamp_min_(1e-12))
    return nodes
