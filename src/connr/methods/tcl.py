"""TCL (Li et al. 2022): Contrastive Clustering of a weak and a strong view, then a phase on confident pseudo-labels.

twin    NT-Xent(z, z'; tau_i) + NT-Xent over the columns of p, p' (tau_c) + KL(p_mean || U) + KL(p'_mean || U)
boost   NT-Xent without negatives of the same pseudo-label + class-weighted cross-entropy of the strong view's p'

Pseudo-labels: of each cluster the ceil(ratio b / K) most confident weak views, without those below the threshold.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import balanced_cross_entropy, nt_xent, same_label, top_per_cluster
from connr.losses.precision import upcast
from connr.methods.cc import cluster_loss
from connr.methods.method import Batch, Context, Method, Optimizer, Phase, Setup, StepOutput, View
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Fraction, Positive, Share, Width
from connr.registry import METHODS


class TCLConfig(MethodConfig):
    """`hidden` (None for the encoder's width) and `out`: of the heads. `twin`: the share of the epochs before boosting.

    `ratio` and `threshold`: of the pseudo-labels. `lr` and `boost_lr`: of Adam, constant; each phase has its own optimiser.
    """

    name: Literal["tcl"] = "tcl"
    hidden: Width | None = None
    out: Width = 128
    temperature: Positive = 0.5
    cluster_temperature: Positive = 1.0
    twin: Share = 5 / 6
    ratio: Fraction = 0.5
    threshold: Fraction = 0.99
    lr: Positive = 1e-4
    boost_lr: Positive = 1e-4


@METHODS.register("tcl")
class TCL(Method):
    """An encoder, an instance head and a cluster head, both of two layers with BatchNorm between."""

    Config = TCLConfig

    def __init__(self, config: TCLConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        hidden = config.hidden or setup.width
        self.encoder = setup.encoder
        self.projector = mlp(setup.width, hidden, config.out)
        self.head = mlp(setup.width, hidden, setup.n_clusters)

    def phases(self) -> Sequence[Phase]:
        c, views = self.config, {"weak": View("weak"), "strong": View("strong")}
        return [
            Phase("twin", c.twin, views=views, optimizer=Optimizer("adam", c.lr)),
            Phase("boost", 1 - c.twin, views=views, optimizer=Optimizer("adam", c.boost_lr)),
        ]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            features = [self.encoder(batch.views[name]) for name in ("weak", "strong")]
            embeddings, outputs = [self.projector(each) for each in features], [self.head(each) for each in features]
        z_weak, z_strong = (context.gather(upcast(each)) for each in embeddings)
        weak, strong = (context.gather(upcast(each)) for each in outputs)
        if context.phase == "twin":
            instances = nt_xent(z_weak, z_strong, self.config.temperature)
            clusters = cluster_loss(weak.softmax(dim=1), strong.softmax(dim=1), self.config.cluster_temperature)
            return StepOutput(instances + clusters, {"instance_loss": instances.detach(), "cluster_loss": clusters.detach()})
        labels = pseudo_labels(weak.detach().softmax(dim=1), self.config.ratio, self.config.threshold)
        instances = nt_xent(z_weak, z_strong, self.config.temperature, ignored=same_label(labels))
        own = balanced_cross_entropy(strong, labels, labels >= 0)
        metrics = {"instance_loss": instances.detach(), "label_loss": own.detach(), "confident": (labels >= 0).to(own).mean()}
        return StepOutput(instances + own, metrics)

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.head, self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        heads = [*self.projector.parameters(), *self.head.parameters()]
        return {"encoder": list(self.encoder.parameters()), "head": heads}


def pseudo_labels(p: Tensor, ratio: float, threshold: float) -> Tensor:
    """The clusters (b) of the chosen images of assignments (b K), and -1 for the others."""
    return torch.where(top_per_cluster(p, ratio, threshold), p.argmax(dim=1), -1)
