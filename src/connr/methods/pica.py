"""PICA (Huang et al. 2020): clusters, as columns of the assignments, agree with themselves across views and with no other.

    loss = mean over heads of 1/K sum_k -ln( e^{c_k . c'_k} / sum_l e^{c_k . c'_l} ) + weight * KL(p_mean || U)

c_k is column k of a head's p over its L2 norm, ' the other view. Images enter as Sobel gradients. The head of least loss
assigns.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import column_cross_entropy, kl_to_uniform
from connr.losses.precision import upcast
from connr.methods.iic import Sobel
from connr.methods.method import Batch, Context, Method, Optimizer, Phase, Setup, StepOutput, View
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import NonNegative, Positive
from connr.registry import METHODS

VIEWS = {"one": View("weak"), "other": View("random")}


class PICAConfig(MethodConfig):
    """`heads`: of K clusters each. `weight`: of the even sizes. `sobel`: for images only. `lr`: of Adam, constant."""

    name: Literal["pica"] = "pica"
    heads: Annotated[int, Field(ge=1, le=100)] = 5
    weight: NonNegative = 2.0
    sobel: bool = True
    lr: Positive = 1e-4


@METHODS.register("pica")
class PICA(Method):
    """An encoder with linear heads."""

    Config = PICAConfig
    losses: Tensor

    def __init__(self, config: PICAConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        self.encoder = nn.Sequential(Sobel(), setup.encoder) if config.sobel else setup.encoder
        self.heads = nn.ModuleList(nn.Linear(setup.width, setup.n_clusters) for _ in range(config.heads))
        self.register_buffer("losses", torch.zeros(config.heads))  # a moving mean

    @classmethod
    def input_channels(cls, config: PICAConfig, channels: int) -> int:
        return 2 if config.sobel else channels

    def phases(self) -> Sequence[Phase]:
        return [Phase("cluster", views=VIEWS, optimizer=Optimizer("adam", self.config.lr))]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        with context.autocast():
            one, other = (self.encoder(batch.views[name]) for name in ("one", "other"))
            outputs = [(head(one), head(other)) for head in self.heads]
        losses = []
        for pair in outputs:
            p, p_other = (context.gather(upcast(logits)).softmax(dim=1) for logits in pair)
            losses.append(partition_loss(p, p_other, self.config.weight))
        found = torch.stack(losses)
        self.losses.lerp_(found.detach().to(self.losses), 0.05)
        return StepOutput(found.mean(), {"best_head": found.detach().min()})

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.heads[int(self.losses.argmin())], self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": list(self.encoder.parameters()), "head": list(self.heads.parameters())}


def partition_loss(p: Float[Tensor, "b K"], p_other: Float[Tensor, "b K"], weight: float) -> Float[Tensor, ""]:
    """Cross-entropy of the columns of one view against those of the other + weight * KL(p_mean || U).

    Args:
        p: assignment probabilities of one view.
        p_other: of the other view.
        weight: >= 0.
    """
    return column_cross_entropy(p, p_other) + weight * kl_to_uniform(p)
