"""IIC (Ji et al. 2019): heads whose outputs for two views of an image share as much information as they can.

    P = mean over the batch of p p'^T, symmetrised;  loss = -sum_kl P_kl (ln P_kl - ln P_k - ln P_l)

Epochs alternate between heads of K clusters and heads of more (one epoch of these, two of those). Images enter as Sobel
gradients, so that colour alone does not cluster them. The head of least loss assigns.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from connr.clustering.assigners import Assigner, Head
from connr.losses import negative_mutual_information
from connr.losses.precision import upcast
from connr.methods.method import Batch, Context, Method, Phase, Setup, StepOutput, View
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Positive
from connr.registry import METHODS

PERIOD = 3  # epochs: the first trains the over-clustering heads, the others the main ones


class IICConfig(MethodConfig):
    """`heads` of K clusters and as many of `over_clusters`; `weight` is lambda of the loss; `sobel` for images only."""

    name: Literal["iic"] = "iic"
    heads: Annotated[int, Field(ge=1, le=100)] = 5
    over_clusters: Annotated[int, Field(ge=2, le=10_000)] = 70
    weight: Positive = 1.0
    sobel: bool = True


@METHODS.register("iic")
class IIC(Method):
    """An encoder with two sets of linear heads."""

    Config = IICConfig
    losses: Tensor

    def __init__(self, config: IICConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.n_clusters = config, setup.n_clusters
        self.encoder = nn.Sequential(Sobel(), setup.encoder) if config.sobel else setup.encoder
        self.heads = nn.ModuleList(nn.Linear(setup.width, setup.n_clusters) for _ in range(config.heads))
        self.over_heads = nn.ModuleList(nn.Linear(setup.width, config.over_clusters) for _ in range(config.heads))
        self.register_buffer("losses", torch.zeros(config.heads))  # of the main heads, a moving mean

    @classmethod
    def input_channels(cls, config: IICConfig, channels: int) -> int:
        return 2 if config.sobel else channels

    def phases(self) -> Sequence[Phase]:
        views = {"one": View("weak"), "other": View("random")}
        return [Phase("cluster", views=views, find_unused_parameters=True)]

    def training_step(self, batch: Batch, context: Context) -> StepOutput:
        over = context.phase_epoch % PERIOD == 0
        with context.autocast():
            one, other = (self.encoder(batch.views[name]) for name in ("one", "other"))
        heads = self.over_heads if over else self.heads
        losses = torch.stack([self._loss(head, upcast(one), upcast(other), context) for head in heads])
        if not over:
            self.losses.lerp_(losses.detach().to(self.losses), 0.05)
        return StepOutput(losses.mean(), {"over_clustering": losses.new_tensor(float(over))})

    def _loss(self, head: nn.Module, one: Tensor, other: Tensor, context: Context) -> Tensor:
        p, q = (context.gather(head(features).softmax(dim=1)) for features in (one, other))
        return negative_mutual_information(p, q, self.config.weight)

    def features(self) -> nn.Module:
        return self.encoder

    def assigner(self) -> Assigner:
        return Head(self.heads[int(self.losses.argmin())], self.n_clusters)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        heads = [*self.heads.parameters(), *self.over_heads.parameters()]
        return {"encoder": list(self.encoder.parameters()), "head": heads}


class Sobel(nn.Module):
    """Images (b c h w) to the horizontal and vertical Sobel gradients (b 2 h w) of their mean over channels."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        self.register_buffer("kernels", torch.stack([across, across.T]).unsqueeze(1), persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
        grey = images.mean(dim=1, keepdim=True)
        return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), self.kernels.to(grey.dtype))
