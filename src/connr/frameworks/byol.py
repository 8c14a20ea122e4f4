"""BYOL (Grill et al. 2020): queries q(F_o(t(x))), keys F_t(t'(x)), pair loss -2 cos (Eq. 1).

F_o and F_t are encoder + projector; F_t follows F_o as a moving average and gets no gradient.
"""

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.frameworks.framework import Framework, move_towards, on_sphere


def negative_cosine(queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
    """-2 <q_i, z_ij>, cosine: in [-2, 2], and |q - z|^2 - 2 on the sphere. Rows need not be normalised."""
    return -2 * torch.einsum("bd,bkd->bk", on_sphere(queries), on_sphere(positives))


class BYOL(Framework):
    """Online encoder, projector and predictor, and a target that follows the first two.

    Args:
        encoder: images (b c h w) -> features (b f).
        projector: features (b f) -> projections (b d).
        predictor: projections (b d) -> queries (b d).
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, projector)
        self.predictor = predictor
        self.target = deepcopy(self.online).requires_grad_(False)

    def embed(
        self, query_view: Float[Tensor, "b ..."], key_view: Float[Tensor, "b ..."]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        queries = self.predictor(self.online(query_view))
        with torch.no_grad():
            keys = on_sphere(self.target(key_view))
        return queries, keys

    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        return negative_cosine(queries, positives)

    def after_step(self, target_momentum: float) -> None:
        move_towards(self.target, self.online, target_momentum)

    @property
    def representation(self) -> nn.Module:
        return self.target

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters()), "predictor": list(self.predictor.parameters())}
