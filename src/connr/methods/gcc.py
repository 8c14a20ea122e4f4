"""GCC (Zhong et al. 2021): neighbours in a graph of the whole set are positives of the features and of the clusters.

    contrast   2 RGC, the only positive of an image being its other view
    graph      2 RGC + cross-entropy of the columns of p against those of n + 2 KL(mean p || uniform)

    RGC = -ln( sum over i's positives j of w_ij e^{s_ij / tau} / sum over j of e^{s_ij / tau} )

Positives: the other view (w = 1) and three neighbours (w = 1 / sqrt(d_i d_j), d the degrees of the graph); n are the
assignments of a view of a random one of i's five neighbours. The graph is made of the features, every five epochs. The
embeddings of the three neighbours come from a memory by image index.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import column_cross_entropy, graph_contrast, kl_to_uniform, normalize_rows
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Needs, Phase, Setup, StepOutput, View
from connr.methods.scan import others
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, NonNegative, Positive, Share, Width
from connr.registry import METHODS


class GCCConfig(MethodConfig):
    """`contrast`: the share of the epochs without graph; `every`: epochs between two graphs of `neighbours` each.

    `positives`: of these neighbours, the nearest ones. `weight`: of RGC. `balance`: of the divergence from equal clusters.
    """

    name: Literal["gcc"] = "gcc"
    hidden: Width = 512
    out: Width = 128
    temperature: Positive = 0.1
    contrast: Share = 0.05
    neighbours: Count = 5
    positives: Count = 3
    every: Count = 5
    weight: NonNegative = 2.0
    balance: NonNegative = 2.0


@METHODS.register("gcc")
class GCC(Method):
    """An encoder, a projector, a cluster head, and a memory of embeddings by image index."""

    Config = GCCConfig
    memory: Tensor
    degrees: Tensor

    def __init__(self, config: GCCConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        self.k = min(config.neighbours, max(1, setup.n_images - 1))
        self.encoder = setup.encoder
        self.projector = mlp(setup.width, config.hidden, config.out, batch_norm=False)
        self.head = mlp(setup.width, config.hidden, setup.n_clusters, batch_norm=False)
        self.register_buffer("memory", normalize_rows(torch.randn(setup.n_images, config.out)))
        self.register_buffer("degrees", torch.ones(setup.n_images))
        self._new: tuple[Tensor, Tensor] | None = None  # indices and embeddings of the step under way

    def phases(self) -> Sequence[Phase]:
        c, views = self.config, {"one": View(), "other": View()}
        needs = Needs(neighbours=partial(others, k=self.k), every=c.every)
        return [
            Phase("contrast", c.contrast, views, lr_factors={"head": 0}),
            Phase("graph", 1 - c.contrast, {**views, "near": View(of="neighbour")}, needs),
        ]

    def before_epoch(self, context: Context) -> None:
        if context.neighbours is not None:
            self.degrees.copy_(degrees(context.neighbours))

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            features = {name: self.encoder(view) for name, view in batch.views.items()}
            embeddings = [self.projector(features[name]) for name in ("one", "other")]
        one, other = (context.gather(normalize_rows(each)) for each in embeddings)
        indices = context.collect(batch.indices)
        near = None if context.neighbours is None else context.neighbours[indices][:, : self.config.positives]
        contrast = (self._contrast(one, other, indices, near) + self._contrast(other, one, indices, near)) / 2
        self._new = indices, one.detach()
        metrics = {"contrast": contrast.detach()}
        if context.phase == "contrast":
            return StepOutput(self.config.weight * contrast, metrics)
        p, n = (context.gather(self.head(upcast(features[name])).softmax(dim=1)) for name in ("one", "near"))
        clusters = column_cross_entropy(p, n) + self.config.balance * kl_to_uniform(p)
        return StepOutput(self.config.weight * contrast + clusters, {**metrics, "cluster_loss": clusters.detach()})

    def _contrast(
        self, anchors: Float[Tensor, "b d"], views: Float[Tensor, "b d"], indices: Int[Tensor, " b"], near: Tensor | None
    ) -> Tensor:
        """RGC. The candidates of an image are the batch's other views, less its neighbours, and its own neighbours."""
        same = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
        if near is None:
            return graph_contrast(anchors, views, same.to(anchors), self.config.temperature)
        own = same.repeat_interleave(near.shape[1], dim=1)
        weights = (self.degrees[indices].unsqueeze(1) * self.degrees[near.flatten()]).rsqrt().to(anchors)
        in_batch = (near.unsqueeze(2) == indices).any(dim=1)
        return graph_contrast(
            anchors,
            torch.cat([views, self.memory[near.flatten()].to(anchors)]),
            torch.cat([same.to(anchors), weights * own], dim=1),
            self.config.temperature,
            compared=torch.cat([~in_batch, own], dim=1),
        )

    def after_step(self, progress: float) -> None:
        """The memory takes the embeddings of the batch's images."""
        assert self._new is not None  # `training_step` came before
        indices, embeddings = self._new
        self.memory[indices] = embeddings.to(self.memory)
        self._new = None

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.head, self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        parts = {"encoder": self.encoder, "projector": self.projector, "head": self.head}
        return {role: list(part.parameters()) for role, part in parts.items()}


def degrees(neighbours: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Edges at each image of the graph in which i and j are joined where either is a neighbour of the other."""
    n, k = neighbours.shape
    counts = torch.full((n,), float(k), device=neighbours.device)
    images = torch.arange(n, device=neighbours.device).view(n, 1, 1)
    one_way = ~(neighbours[neighbours] == images).any(dim=2)  # those that do not have i among their own
    return counts.index_add_(0, neighbours.flatten(), one_way.flatten().to(counts))
