"""ProPos (Huang et al. 2022): BYOL, whose positives are sampled around an embedding, and prototypes that push clusters apart.

    loss = -2 cos(q(z + sigma eps), z~') + weight * scattering(z, z~', labels)    eps ~ N(0, I), both directions averaged
    scattering = mean over clusters k of the batch of -s_kk + ln(e^{s_kk} + sum_{l != k} e^{s_kl})
    s_kl = mu_k . mu_l / tau,  s_kk = mu_k . mu~'_k / tau,  mu_k = normalised sum of the unit z_i with label k

z = F_o(t(x)), z~' = F_t(t'(x)); labels are those of k-means before every epoch. Until the share `warmup` of the epochs it is
BYOL. As `base` of connr, the neighbours of an image are its positives, and the scattering goes on beside them.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from connr.losses import prototype_scattering, sampled_positive
from connr.losses.precision import upcast
from connr.methods.byol import BYOL, BYOLConfig
from connr.methods.method import Batch, Context, Needs, Phase, Setup
from connr.methods.pairs import LearningRateFactors
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import NonNegative, Positive, Share
from connr.registry import METHODS


class ProPosConfig(BYOLConfig):
    """`warmup`: the share of the epochs without noise and prototypes. `sigma`: of the noise, in the units of the projection.

    `weight` and `temperature`: of the scattering of prototypes. The others are BYOL's.
    """

    name: Literal["propos"] = "propos"  # type: ignore[assignment]
    lr_factors: LearningRateFactors = LearningRateFactors(predictor=10)
    warmup: Share = 0.05
    sigma: NonNegative = 0.001
    weight: NonNegative = 0.1
    temperature: Positive = 0.5


@METHODS.register("propos")
class ProPos(BYOL):
    """BYOL's networks; the embeddings of a step wait for the loss of the prototypes."""

    Config: ClassVar[type[MethodConfig]] = ProPosConfig
    config: ProPosConfig

    def __init__(self, config: ProPosConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._noise: Tensor | None = None  # (2 b d), of this step's two directions; None during the warm-up
        self._embedded: list[tuple[Tensor, Tensor]] = []  # online and target embeddings of each direction
        self._labels: Tensor | None = None

    @property
    def needs_clusters(self) -> bool:
        return True

    def phases(self) -> Sequence[Phase]:
        factors, warmup = self.config.lr_factors.model_dump(), self.config.warmup
        return [
            Phase("warmup", warmup, lr_factors=factors),
            Phase("prototypes", 1 - warmup, needs=Needs(clusters=True), lr_factors=factors),
        ]

    def before_step(self, batch: Batch, context: Context) -> None:
        self._noise = self._labels = None
        if context.epoch < round(self.config.warmup * context.epochs):
            return
        if context.clusters is None:
            raise ValueError("propos needs the clusters of k-means after its warm-up: a phase with Needs(clusters=True).")
        shape = (2, context.batch_size, self.config.out)
        noise = torch.randn(shape, generator=context.generator("noise"), device="cpu")
        self._noise = noise[:, context.own].to(batch.indices.device)
        self._labels = context.clusters.assignments[context.collect(batch.indices)]

    def embed_both(
        self, one: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        online, keys = (self.online(one), self.online(other)), (self._keys(other), self._keys(one))
        self._embedded = list(zip(online, keys, strict=True))
        sampled = online
        if self._noise is not None:
            pairs = zip((upcast(z) for z in online), self._noise, strict=True)
            first, second = (sampled_positive(z, eps.to(z.dtype), self.config.sigma) for z, eps in pairs)
            sampled = first, second
        return (self.predictor(sampled[0]), keys[0]), (self.predictor(sampled[1]), keys[1])

    def batch_term(self, direction: int, context: Context) -> Tensor | None:
        (online, target), self._embedded[direction] = self._embedded[direction], (torch.empty(0), torch.empty(0))
        if self._labels is None:
            return None
        assert context.clusters is not None  # as in `before_step`
        z, keys, k = context.gather(online), context.collect(target), len(context.clusters.centroids)
        return self.config.weight * prototype_scattering(z, keys, self._labels, k, self.config.temperature)
