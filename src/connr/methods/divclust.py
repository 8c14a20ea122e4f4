"""DivClust (Maniadis Metaxas et al. 2023): M clusterings of one base method, kept from agreeing more than wanted.

    loss = base loss, mean over heads + 1/M sum_{a != b} max(0, S_ab - d)
    S_ab = mean_k max_l c^a_k . c^b_l,  c^a_k = column k of head a's p over its L2 norm

Every `every` steps d becomes 0.99 d where the mean NMI between heads is above its target, else 1.01 d, at most 1. The NMI is
that of the images of the latest steps. The consensus of the heads assigns.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from connr.clustering.assigners import Assigner
from connr.clustering.consensus import Consensus, pairwise_nmi, shared_images
from connr.losses import diversity_penalty, next_threshold, nt_xent
from connr.losses.precision import upcast
from connr.methods.cc import cluster_loss
from connr.methods.iic import Sobel
from connr.methods.method import Batch, Context, Method, Optimizer, Phase, Setup, StepOutput
from connr.methods.pica import VIEWS, partition_loss
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Count, Fraction, NonNegative, Positive, Share, Width
from connr.registry import METHODS

LR = {"cc": 3e-4, "pica": 1e-4}


class DivClustConfig(MethodConfig):
    """`base`: whose losses the heads have. `heads`: M. `nmi`: the agreement wanted; `rate` and `every`: of the threshold d.

    `memory`: the latest images whose assignments the agreement is measured on, at most the training set. `lr`: of Adam,
    constant; None for that of the base. `hidden` to `cluster_temperature`: of cc; `weight` and `sobel`: of pica.
    """

    name: Literal["divclust"] = "divclust"
    base: Literal["cc", "pica"] = "cc"
    heads: Annotated[int, Field(ge=2, le=100)] = 20
    nmi: Share = 0.8
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    every: Count = 20
    memory: Annotated[int, Field(ge=1, le=2**20)] = 10_000
    hidden: Width | None = None
    out: Width = 128
    temperature: Positive = 0.5
    cluster_temperature: Positive = 1.0
    weight: NonNegative = 2.0
    sobel: bool = True
    threshold: Fraction = 1.0
    lr: Positive | None = None


@METHODS.register("divclust")
class DivClust(Method):
    """An encoder with M cluster heads, and on the base cc an instance head."""

    Config = DivClustConfig
    threshold: Tensor
    recent: Tensor

    def __init__(self, config: DivClustConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        width, k, hidden = setup.width, setup.n_clusters, config.hidden or setup.width
        self.encoder, self.projector = setup.encoder, None
        if config.base == "cc":
            self.projector = mlp(width, hidden, config.out, batch_norm=False)
            self.heads = nn.ModuleList(mlp(width, hidden, k, batch_norm=False) for _ in range(config.heads))
        else:
            self.encoder = nn.Sequential(Sobel(), setup.encoder) if config.sobel else setup.encoder
            self.heads = nn.ModuleList(nn.Linear(width, k) for _ in range(config.heads))
        self.register_buffer("threshold", torch.tensor(config.threshold))
        size = min(config.memory, setup.n_images)
        self.register_buffer(
            "recent", torch.full((size, config.heads), -1, dtype=torch.int32)
        )  # clusters; -1 for no image yet

    @classmethod
    def input_channels(cls, config: DivClustConfig, channels: int) -> int:
        return 2 if config.base == "pica" and config.sobel else channels

    def phases(self) -> Sequence[Phase]:
        optimizer = Optimizer("adam", self.config.lr or LR[self.config.base])
        return [
            Phase("cluster", views=VIEWS, optimizer=optimizer)
            if self.config.base == "pica"
            else Phase("cluster", optimizer=optimizer)
        ]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        c = self.config
        with context.autocast():
            features = [self.encoder(batch.views[name]) for name in ("one", "other")]
            embeddings = [self.projector(each) for each in features] if self.projector is not None else []
            outputs = [torch.stack([head(each) for head in self.heads], dim=1) for each in features]
        p, p_other = (context.gather(upcast(each)).softmax(dim=2).transpose(0, 1) for each in outputs)  # (M b K)
        if embeddings:
            z, z_other = (context.gather(upcast(each)) for each in embeddings)
            base = nt_xent(z, z_other, c.temperature)
            base = (
                base
                + torch.stack([cluster_loss(*each, c.cluster_temperature) for each in zip(p, p_other, strict=True)]).mean()
            )
        else:
            base = torch.stack([partition_loss(*each, c.weight) for each in zip(p, p_other, strict=True)]).mean()
        diversity = (diversity_penalty(p, self.threshold) + diversity_penalty(p_other, self.threshold)) / 2
        metrics = {"base_loss": base.detach(), "diversity_loss": diversity.detach(), "threshold": self.threshold.clone()}
        self._look(p.detach(), context)
        return StepOutput(base + diversity, metrics)

    def _look(self, p: Float[Tensor, "M b K"], context: Context) -> None:
        """Remembers the clusters of the batch's images; every so many steps the threshold follows the agreement."""
        self.recent = torch.cat([p.argmax(dim=2).T.to(self.recent), self.recent])[: len(self.recent)]
        if (context.step + 1) % self.config.every:
            return
        seen = self.recent[self.recent[:, 0] >= 0]
        agreement = pairwise_nmi(shared_images(seen, seen, self.n_clusters))
        pairs = ~torch.eye(len(agreement), dtype=torch.bool, device=agreement.device)
        mean = float(agreement[pairs].mean())
        self.threshold.fill_(next_threshold(float(self.threshold), mean, self.config.nmi, self.config.rate))

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Consensus(self.heads, self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        projector = list(self.projector.parameters()) if self.projector is not None else []
        return {"encoder": list(self.encoder.parameters()), "head": [*projector, *self.heads.parameters()]}
