"""The group loss with contextual neighbours as a module, for custom training loops (Eqs. 3-8, 14)."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from connr.losses import group_mean, negative_cosine, normalize_rows
from connr.neighbours.contextual import ContextualConfig


class ConNRLoss(nn.Module):
    """The loss of ConNR's second phase, for one direction of a batch.

    Args:
        neighbourhood: k, k1, k2, alpha, layers of `connr.neighbours.contextual`; k = 1 makes it the loss of plain BYOL.

    Example:
        >>> loss = ConNRLoss(k=5, k1=5, k2=2)
        >>> float(loss(torch.eye(8), torch.eye(8))) < 0
        True
    """

    def __init__(self, **neighbourhood: Any) -> None:
        super().__init__()
        self.neighbourhood = ContextualConfig(**neighbourhood).build()

    def forward(
        self, queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], kept: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, ""]:
        """The loss of one direction; call it again with the views swapped and average.

        Args:
            queries: (b d), predictions of one view, with gradient.
            keys: (b d), target projections of the other view; taken without gradient.
            kept: (b), anchors to keep, e.g. `keep(boundary_ratio(...), fraction)`; None keeps all.

        Returns:
            scalar in [-2, 2].
        """
        keys = normalize_rows(keys.detach())
        with torch.no_grad():
            neighbours = self.neighbourhood(keys)
        if kept is None:
            kept = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        return group_mean(negative_cosine(queries, keys[neighbours]), kept)
