"""SimSiam (Chen & He 2021): queries q(F(t(x))), keys stop-gradient F(t'(x)), pair loss -cos. No target network.

A view goes through the network once a step, and serves as query in one direction and as key in the other. With neighbours:
    1/2 mean_j D(p1_i, z2_j) + 1/2 mean_j D(p2_i, z1_j),  j in N(i) among the other view's z    (Eq. 16)
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from connr.losses import negative_cosine, normalize_rows
from connr.methods.method import Setup
from connr.methods.pairs import PairConfig, PairMethod
from connr.networks.heads import mlp, simsiam_projector
from connr.recipe.section import Width
from connr.registry import METHODS


class SimSiamConfig(PairConfig):
    """Widths of projector and predictor; the predictor is `bottleneck` wide inside; `layers` of the projector."""

    name: Literal["simsiam"] = "simsiam"
    hidden: Width = 2048
    out: Width = 2048
    bottleneck: Width = 512
    layers: Annotated[int, Field(ge=2, le=10)] = 3


@METHODS.register("simsiam")
class SimSiam(PairMethod):
    """One encoder and projector, and a predictor with a bottleneck."""

    Config = SimSiamConfig

    def __init__(self, config: SimSiamConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        projector = simsiam_projector(setup.width, config.hidden, config.out, config.layers)
        self.predictor = mlp(config.out, config.bottleneck, config.out)
        self.online = nn.Sequential(setup.encoder, projector)

    def embed_both(
        self, one: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        z1, z2 = self.online(one), self.online(other)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return (p1, normalize_rows(z2.detach())), (p2, normalize_rows(z1.detach()))

    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        return negative_cosine(queries, positives, weight=1)

    def features(self) -> nn.Module:
        return self.online

    @property
    def backbone(self) -> nn.Module:
        return self.online.get_submodule("0")

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters()), "predictor": list(self.predictor.parameters())}
