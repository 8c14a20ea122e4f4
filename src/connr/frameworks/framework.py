"""What the algorithm asks of a framework, and nothing more."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Framework(nn.Module, ABC):
    """A self-supervised framework: `embed` two views, score pairs, follow up each optimiser step."""

    @abstractmethod
    def embed(
        self, query_view: Float[Tensor, "b ..."], key_view: Float[Tensor, "b ..."]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Queries (b d) with gradient, and L2-normalised keys (b d) without."""

    def embed_both(
        self, one: Float[Tensor, "b ..."], two: Float[Tensor, "b ..."]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Queries and keys (b d) of both directions of a step: queries of `one`, keys of `two`; then the other way round.

        To be overridden where one network makes queries and keys, so that each view goes through it once.
        """
        return self.embed(one, two), self.embed(two, one)

    @abstractmethod
    def pair_loss(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b k d"]) -> Float[Tensor, "b k"]:
        """The loss of each query with each of its k positives, which are rows of keys."""

    def remember(self, keys: Float[Tensor, "b d"]) -> None:
        """Shown the keys of all ranks, once for each direction of a step; a framework without a queue forgets them."""
        return

    @abstractmethod
    def after_step(self, target_momentum: float) -> None:
        """Called once after each optimiser step: move the target network, the queue, or nothing."""

    @property
    @abstractmethod
    def representation(self) -> nn.Module:
        """Encoder and projector that are clustered in the end: images (n c h w) -> projections (n d)."""

    @property
    def encoder(self) -> nn.Module:
        """The trained encoder, without the projector."""
        online: nn.Module = self.get_submodule("online.0")
        return online

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trained parameters by role, `encoder` (with the projector) and `predictor`; a recipe gives each its lr factor."""


def on_sphere(rows: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Rows over their L2 norm, in single precision at least: under mixed precision, losses and neighbours are not mixed."""
    return F.normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=-1)


@torch.no_grad()
def move_towards(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- momentum target + (1 - momentum) online, over all parameters as one operation."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
