"""One clustering of several: heads whose clusters are matched to one another, and vote.

    order_m = the permutation of head m's clusters that shares most images with the consensus (Hungarian matching)
    p_i     = 1/M sum_m p^m_i in that order,   the cluster of image i = argmax_k p_ik

The consensus is first the head that agrees most with the others (mean NMI), then that of the heads matched to it, and so on
until no match changes.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head, KMeans
from connr.clustering.kmeans import Clusters
from connr.distributed import SINGLE_PROCESS, Communicator

ROUNDS = 20  # of matching, at most
AT_A_TIME = 4096  # images


class Vote(nn.Module):
    """The mean of the heads' probabilities, each head's clusters in its own order.

    Args:
        heads: M of them, features (b d) to logits (b K).
        order: (M K), for each head the cluster that comes in place k.
    """

    order: Tensor

    def __init__(self, heads: nn.ModuleList, order: Int[Tensor, "M K"]) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("order", order)

    def each(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "M b K"]:
        """The probabilities of every head, in its own order."""
        return torch.stack([head(features) for head in self.heads]).softmax(dim=2)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b K"]:
        return in_order(self.each(features), self.order).mean(dim=0)


class Consensus(Head):
    """The vote of several heads.

    Args:
        heads: M of them, features (b d) to logits (b K).
        n_clusters: K >= 1.
        order: (M K), as `fit` found it; None before.
    """

    renumbers: ClassVar[bool] = True

    head: Vote

    def __init__(self, heads: nn.ModuleList, n_clusters: int, order: Int[Tensor, "M K"] | None = None) -> None:
        order = torch.arange(n_clusters).repeat(len(heads), 1) if order is None else order
        super().__init__(Vote(heads, order), n_clusters, probabilities=True)

    def fit(self, features: Float[Tensor, "b d"], kmeans: KMeans, communicator: Communicator) -> tuple[Assigner, Clusters]:
        with torch.no_grad():
            order = matched(self.head.each(features), communicator)
        fitted = Consensus(self.head.heads, self.n_clusters, order.to(features.device))
        return Assigner.fit(fitted, features, kmeans, communicator)

    def reordered(self, order: Int[Tensor, " K"]) -> "Consensus":
        return Consensus(self.head.heads, self.n_clusters, self.head.order[:, order])


def in_order(assignments: Float[Tensor, "M b K"], order: Int[Tensor, "M K"]) -> Float[Tensor, "M b K"]:
    """The columns of every clustering in its own order."""
    return assignments.gather(2, order.unsqueeze(1).expand(-1, assignments.shape[1], -1))


def matched(assignments: Float[Tensor, "M b K"], communicator: Communicator = SINGLE_PROCESS) -> Int[Tensor, "M K"]:
    """The order of every clustering's clusters in which the clusterings agree most, on the CPU.

    Args:
        assignments: probabilities of M clusterings of this process's share of the images.
        communicator: between the processes that have the other shares.
    """
    k = assignments.shape[2]
    labels = assignments.argmax(dim=2).T  # (b M)
    agreement = pairwise_nmi(shared_images(labels, labels, k, communicator))
    central = int(agreement.sum(dim=1).argmax())
    consensus, order = labels[:, central], torch.full((len(assignments), k), -1)
    for _ in range(ROUNDS):
        tables = shared_images(consensus.unsqueeze(1), labels, k, communicator)[0].cpu()
        found = torch.stack([most_shared(table) for table in tables])
        if torch.equal(found, order):
            break
        order = found
        consensus = in_order(assignments, order.to(assignments.device)).mean(dim=0).argmax(dim=1)
    return order


def most_shared(table: Float[Tensor, "K K"]) -> Int[Tensor, " K"]:
    """For each row of a table of shared images a column of its own, such that the chosen entries have the largest sum."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(table.numpy(), maximize=True)[1])


def shared_images(
    first: Int[Tensor, "b A"], second: Int[Tensor, "b B"], n_clusters: int, communicator: Communicator = SINGLE_PROCESS
) -> Float[Tensor, "A B K K"]:
    """How many images cluster k of each clustering shares with cluster l of each other one, over all processes.

    Args:
        first, second: clusters of this process's images by A and by B clusterings.
        n_clusters: K.
        communicator: between the processes.
    """
    a, b = first.shape[1] * n_clusters, second.shape[1] * n_clusters
    table = torch.zeros(a, b, dtype=torch.float64, device=first.device)
    for rows, others in zip(first.split(AT_A_TIME), second.split(AT_A_TIME), strict=True):
        one_hot: Sequence[Tensor] = [F.one_hot(each.long(), n_clusters).flatten(1).float() for each in (rows, others)]
        table += (one_hot[0].T @ one_hot[1]).double()  # whole numbers, which single precision has exactly
    table = communicator.sum(table)
    return table.view(first.shape[1], n_clusters, second.shape[1], n_clusters).transpose(1, 2)


def pairwise_nmi(tables: Float[Tensor, "M M K K"]) -> Float[Tensor, "M M"]:
    """NMI (arithmetic mean of the entropies) of each two of M clusterings; 1 where both have one cluster.

    Args:
        tables: of `shared_images`.
    """
    joint = tables / tables.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mine, theirs = joint.sum(dim=3), joint.sum(dim=2)
    information = -(torch.special.entr(joint).sum(dim=(2, 3)))
    entropies = torch.special.entr(mine).sum(dim=2) + torch.special.entr(theirs).sum(dim=2)
    shared = (entropies + information).clamp(min=0)
    return torch.where(entropies > 0, 2 * shared / entropies, 1.0)
