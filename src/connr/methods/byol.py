"""BYOL (Grill et al. 2020): queries q(F_o(t(x))), keys F_t(t'(x)), pair loss -2 cos (Eq. 1).

F_o and F_t are encoder + projector; F_t follows F_o as a moving average and gets no gradient.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from connr.losses import negative_cosine
from connr.methods.method import Setup
from connr.methods.pairs import PairConfig, TargetNetwork
from connr.networks.heads import mlp
from connr.recipe.plugins import MethodConfig
from connr.recipe.section import Positive, Share, Width
from connr.registry import METHODS


class BYOLConfig(PairConfig):
    """Widths of projector and predictor; the target's momentum at the start, and at the end."""

    name: Literal["byol"] = "byol"
    hidden: Width = 4096
    out: Width = 256
    predictor_std: Positive | None = 0.01
    target_momentum: Share = 0.996
    final_momentum: Share = 1.0


@METHODS.register("byol")
class BYOL(TargetNetwork):
    """Online encoder, projector and predictor, and a target network that follows the first two."""

    Config: ClassVar[type[MethodConfig]] = BYOLConfig

    def __init__(self, config: BYOLConfig, setup: Setup) -> None:
        super().__init__()
        self.config, self.momenta = config, (config.target_momentum, config.final_momentum)
        projector = mlp(setup.width, config.hidden, config.out)
        self.predictor = mlp(config.out, config.hidden, config.out, config.predictor_std)
        self.online = nn.Sequential(setup.encoder, projector)
        self.target = deepcopy(self.online).requires_grad_(False)

    def query(self, view: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        queries: Tensor = self.predictor(self.online(view))
        return queries

    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        return negative_cosine(queries, positives)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters()), "predictor": list(self.predictor.parameters())}
