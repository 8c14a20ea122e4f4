"""Algorithm 1, one batch of it. Pure torch: no files, no ranks, no Fabric.

    queries, keys = embed(t(x), t'(x))                    line 3
    N(i)  from the pool: itself, local or contextual      lines 4-5, Eqs. 1, 2, 3-7
    kept  from the keys: all, or those off a boundary     line 6, Eqs. 9-13
    loss  = mean over kept i of the mean over j in N(i) of pair_loss(query_i, key_j)    line 7, Eqs. 8, 14

The pool is the keys of the batch, and where a `KeyMemory` is given those of the batches before. Anchors are of the batch.

Stage 1 is (`itself`, `everyone`), which makes the loss Eq. 1; stage 2 is (`contextual`, `off_boundary`): Eq. 15 is a
choice of two callables, so there is one loss path.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from connr.clustering.boundary import boundary_ratio, keep
from connr.frameworks.byol import negative_cosine
from connr.frameworks.framework import Framework, on_sphere
from connr.key_memory import KeyMemory
from connr.neighbours import contextual

Neighbourhood = Callable[[Tensor], Tensor]  # pool (p d) -> indices (p k)
AnchorFilter = Callable[[Tensor, Tensor], Tensor]  # keys (b d), image indices (b) -> kept (b)
Gather = Callable[[Tensor], Tensor]  # the rows of this rank -> the rows of all ranks, in rank order
Autocast = Callable[[], AbstractContextManager[object]]


class Sockets(NamedTuple):
    """What one stage plugs in; `mean_over_all` divides by all anchors, not by the kept ones (the released program does)."""

    neighbourhood: Neighbourhood
    anchors: AnchorFilter
    mean_over_all: bool = False


class Concordance(NamedTuple):
    """loss: scalar with gradient. kept: scalar, the share of anchors kept."""

    loss: Float[Tensor, ""]
    kept: Float[Tensor, ""]


def identity(rows: Tensor) -> Tensor:
    """`gather` of a single process."""
    return rows


def all_anchors(keys: Float[Tensor, "b d"], indices: Int[Tensor, " b"]) -> Bool[Tensor, " b"]:
    """The anchor filter that keeps all (stage 1)."""
    return torch.ones(len(keys), dtype=torch.bool, device=keys.device)


def off_boundary(
    keys: Float[Tensor, "b d"],
    indices: Int[Tensor, " b"],
    *,
    centroids: Float[Tensor, "K d"],
    assignments: Int[Tensor, " n"],
    fraction: float,
    inclusive_threshold: bool = True,
) -> Bool[Tensor, " b"]:
    """The anchor filter of stage 2 (Eqs. 9-13), on the clusters that k-means found after the epoch before."""
    return keep(boundary_ratio(keys, centroids, assignments[indices]), fraction, inclusive_threshold)


def step(
    framework: Framework,
    views: tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]],
    indices: Int[Tensor, " b"],
    sockets: Sockets,
    gather: Gather = identity,
    first: int = 0,
    autocast: Autocast = nullcontext,
    memory: KeyMemory | None = None,
) -> Concordance:
    """The symmetric loss of one batch: views swapped, averaged.

    Args:
        framework: embeds and scores.
        views: two augmented views of the same images.
        indices: of the images in the data set, for the anchor filter.
        sockets: the neighbourhood and the anchor filter of this stage.
        gather: over ranks, so that neighbours are sought among all ranks' keys.
        first: where this rank's rows begin among the gathered; the losses of all ranks sum to that of the whole batch.
        autocast: makes the context of the networks' precision; neighbours and losses stay out of it.
        memory: keys of the batches before, among which neighbours are sought too; None for none.
    """
    # Weights cast to half precision are kept until the outermost context ends: they are cast once, not once a direction.
    with torch.autocast(views[0].device.type, enabled=False):
        with autocast():
            embedded = framework.embed_both(*views)
        one, two = (
            concordance(framework, *pair, indices, sockets, gather, first, memory, direction)
            for direction, pair in enumerate(embedded)
        )
    return Concordance((one.loss + two.loss) / 2, (one.kept + two.kept) / 2)


def concordance(
    framework: Framework,
    queries: Float[Tensor, "b d"],
    keys: Float[Tensor, "b d"],
    indices: Int[Tensor, " b"],
    sockets: Sockets,
    gather: Gather = identity,
    first: int = 0,
    memory: KeyMemory | None = None,
    direction: int = 0,
) -> Concordance:
    """One direction of `step`: queries of one view; keys, neighbours and ratios of the other."""
    with torch.no_grad():
        of_batch = gather(keys)
        framework.remember(of_batch)
        pool = memory.pool(direction, of_batch) if memory else of_batch
        neighbours = sockets.neighbourhood(pool)
        kept = sockets.anchors(of_batch, gather(indices))
    own = slice(first, first + len(queries))
    pairs = framework.pair_loss(queries, pool[neighbours[own]])
    total = kept.new_full((), len(kept), dtype=torch.int64) if sockets.mean_over_all else kept.sum()
    return Concordance(group_loss(pairs, kept[own], total), kept.float().mean())


def group_loss(
    pairs: Float[Tensor, "b k"], kept: Bool[Tensor, " b"], total: Int[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Mean over the kept anchors of the mean over their neighbours (Eqs. 8, 14); 0 where none is kept.

    `total` is the number kept on all ranks, so that the ranks' losses sum to the loss of the whole batch; None: `kept.sum()`.
    """
    per_anchor = pairs.mean(dim=1) * kept
    return per_anchor.sum() / (kept.sum() if total is None else total).clamp(min=1)


class ConNRLoss(nn.Module):
    """The group loss with contextual neighbours, for a training loop of your own (Eqs. 3-8, 14).

    Args:
        k, k1, k2, alpha, layers: of `connr.neighbours.contextual`; k = 1 makes it the loss of plain BYOL.
    """

    def __init__(self, k: int = 10, k1: int = 10, k2: int = 2, alpha: float = 2.0, layers: int = 2) -> None:
        super().__init__()
        self.neighbourhood = partial(contextual, k=k, k1=k1, k2=k2, alpha=alpha, layers=layers)

    def forward(
        self, queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], kept: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, ""]:
        """The loss of one direction; call it again with the views swapped and average.

        Args:
            queries: (b d), predictions of one view, with gradient.
            keys: (b d), target projections of the other view; taken without gradient.
            kept: (b), anchors to keep, e.g. `keep(boundary_ratio(...), fraction)`; None keeps all.

        Returns:
            scalar in [-2, 2].
        """
        keys = on_sphere(keys.detach())
        with torch.no_grad():
            neighbours = self.neighbourhood(keys)
        if kept is None:
            kept = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        return group_loss(negative_cosine(queries, keys[neighbours]), kept)
