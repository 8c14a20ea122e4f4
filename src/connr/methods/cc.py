"""Contrastive Clustering (Li et al. 2021): the rows of a batch are contrasted as images, the columns as clusters.

    loss = NT-Xent(z, z'; tau_i) + NT-Xent over the columns of p and p' (tau_c) + KL(p_mean || U) + KL(p'_mean || U)

z is a projection of the features, p the softmax of a cluster head, U the uniform distribution.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import column_nt_xent, kl_to_uniform, nt_xent
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Optimizer, Phase, Setup, StepOutput
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Positive, Width
from connr.registry import METHODS


class CCConfig(MethodConfig):
    """`out`: width of the projection. `hidden`: width inside both heads; None for the encoder's.

    `temperature` and `cluster_temperature`: of the rows and of the columns. `lr`: of Adam, constant.
    """

    name: Literal["cc"] = "cc"
    hidden: Width | None = None
    out: Width = 128
    temperature: Positive = 0.5
    cluster_temperature: Positive = 1.0
    lr: Positive = 3e-4


@METHODS.register("cc")
class CC(Method):
    """An encoder, an instance head and a cluster head, both of two layers."""

    Config = CCConfig

    def __init__(self, config: CCConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        hidden = config.hidden or setup.width
        self.encoder = setup.encoder
        self.projector = mlp(setup.width, hidden, config.out, batch_norm=False)
        self.head = mlp(setup.width, hidden, setup.n_clusters, batch_norm=False)

    def phases(self) -> Sequence[Phase]:
        return [Phase("contrast", optimizer=Optimizer("adam", self.config.lr))]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            features = [self.encoder(batch.views[name]) for name in ("one", "other")]
            embeddings, logits = [self.projector(each) for each in features], [self.head(each) for each in features]
        z, z_other = (context.gather(upcast(each)) for each in embeddings)
        p, p_other = (context.gather(upcast(each)).softmax(dim=1) for each in logits)
        instances = nt_xent(z, z_other, self.config.temperature)
        clusters = cluster_loss(p, p_other, self.config.cluster_temperature)
        return StepOutput(instances + clusters, {"instance_loss": instances.detach(), "cluster_loss": clusters.detach()})

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.head, self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        heads = [*self.projector.parameters(), *self.head.parameters()]
        return {"encoder": list(self.encoder.parameters()), "head": heads}


def cluster_loss(p: Float[Tensor, "b K"], p_other: Float[Tensor, "b K"], temperature: float) -> Float[Tensor, ""]:
    """NT-Xent over the columns + KL(p_mean || U) + KL(p'_mean || U).

    Args:
        p: assignment probabilities of one view.
        p_other: of the other view.
        temperature: > 0, of the columns.
    """
    return column_nt_xent(p, p_other, temperature) + kl_to_uniform(p) + kl_to_uniform(p_other)
