"""SimSiam (Chen & He 2021): queries q(F(t(x))), keys stop-gradient F(t'(x)), pair loss D = -cos. No target network.

A view goes through the network once a step, and serves as query in one direction and as key in the other.

With neighbours it is Eq. 16:  1/2 mean_j D(p1_i, z2_j) + 1/2 mean_j D(p2_i, z1_j),  j in N(i) among the other view's z.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.frameworks.framework import Framework, on_sphere


class SimSiam(Framework):
    """One encoder and projector, and a predictor with a bottleneck.

    Args:
        encoder: images (b c h w) -> features (b f).
        projector: features (b f) -> projections (b d), batch-normalised.
        predictor: projections (b d) -> queries (b d).
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, projector)
        self.predictor = predictor

    def embed(
        self, query_view: Float[Tensor, "b ..."], key_view: Float[Tensor, "b ..."]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        queries = self.predictor(self.online(query_view))
        with torch.no_grad():
            keys = on_sphere(self.online(key_view))
        return queries, keys

    def embed_both(
        self, one: Float[Tensor, "b ..."], two: Float[Tensor, "b ..."]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        z1, z2 = self.online(one), self.online(two)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return (p1, on_sphere(z2.detach())), (p2, on_sphere(z1.detach()))

    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        return -torch.einsum("bd,bkd->bk", on_sphere(queries), on_sphere(positives))

    def after_step(self, target_momentum: float) -> None:
        """Nothing follows."""

    @property
    def representation(self) -> nn.Module:
        return self.online

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"encoder": list(self.online.parameters()), "predictor": list(self.predictor.parameters())}
