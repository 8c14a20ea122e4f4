"""SCAN (Van Gansbeke et al. 2020): pretext features, then a head that agrees on neighbours, then the head's own labels.

pretext      NT-Xent between two views (SimCLR)
cluster      -ln <p_i, p_j> - weight * H(mean p), j a random one of i's nearest neighbours in the whole set
self_label   class-weighted cross-entropy of the strong view with the weak view's label, where that is confident
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import confident_cross_entropy, mean_entropy, neighbour_consistency, nt_xent
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Needs, Optimizer, Phase, Setup, StepOutput, View
from connr.neighbours import local
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, Fraction, NonNegative, Positive, Share, Width
from connr.registry import METHODS


class SCANConfig(MethodConfig):
    """Shares of the epochs, batch sizes and learning rates (Adam) of the second and third phase; the first has the recipe's.

    `hidden`, `out`, `temperature`: of the pretext. `neighbours`, `entropy`: of the second phase. `threshold`: of the third.
    """

    name: Literal["scan"] = "scan"
    hidden: Width = 512
    out: Width = 128
    temperature: Positive = 0.1
    neighbours: Count = 20
    entropy: NonNegative = 5.0
    threshold: Fraction = 0.99
    pretext: Share = 2 / 3
    cluster: Share = 1 / 15
    cluster_lr: Positive = 1e-4
    cluster_batch: Count = 128
    self_label_lr: Positive = 1e-4
    self_label_batch: Count = 1000


@METHODS.register("scan")
class SCAN(Method):
    """An encoder with a projector for the pretext and a linear cluster head."""

    Config = SCANConfig

    def __init__(self, config: SCANConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters, self.n_images = config, setup.n_clusters, setup.n_images
        self.encoder = setup.encoder
        self.projector = mlp(setup.width, config.hidden, config.out, batch_norm=False)
        self.head = nn.Linear(setup.width, setup.n_clusters)

    def phases(self) -> Sequence[Phase]:
        c = self.config
        k = min(c.neighbours, max(1, self.n_images - 1))
        return [
            Phase("pretext", c.pretext, lr_factors={"head": 0}),
            Phase(
                "cluster",
                c.cluster,
                views={"one": View("weak"), "other": View("weak", of="neighbour")},
                needs=Needs(neighbours=partial(others, k=k), every=0),
                optimizer=Optimizer("adam", c.cluster_lr, weight_decay=1e-4),
                lr_factors={"projector": 0},
                batch_size=c.cluster_batch,
            ),
            Phase(
                "self_label",
                max(0.0, 1 - c.pretext - c.cluster),
                views={"weak": View("weak"), "strong": View("strong")},
                optimizer=Optimizer("adam", c.self_label_lr, weight_decay=1e-4),
                lr_factors={"projector": 0},
                batch_size=c.self_label_batch,
            ),
        ]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            features = [self.encoder(view) for view in batch.views.values()]
            outputs = [(self.projector if context.phase == "pretext" else self.head)(each) for each in features]
        one, other = (context.gather(upcast(each)) for each in outputs)
        if context.phase == "pretext":
            return StepOutput(nt_xent(one, other, self.config.temperature))
        if context.phase == "cluster":
            p, q = one.softmax(dim=1), other.softmax(dim=1)
            consistency, entropy = neighbour_consistency(p, q), mean_entropy(p)
            return StepOutput(consistency - self.config.entropy * entropy, {"entropy": entropy.detach()})
        found = confident_cross_entropy(other, one.detach().softmax(dim=1), self.config.threshold)
        return StepOutput(found.loss, {"confident": found.share.detach()})

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.head, self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        parts = {"encoder": self.encoder, "projector": self.projector, "head": self.head}
        return {role: list(part.parameters()) for role, part in parts.items()}


def others(rows: Tensor, k: int) -> Tensor:
    """The k nearest of each row by cosine, without the row itself."""
    return local(rows, k + 1)[:, 1:]
