"""lightly's BYOL with ConNR: a criterion in the place of `NegativeCosineSimilarity`. `examples/lightly_byol.py` has the lines.

lightly itself is not needed to import it.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from connr.integrations.two_stages import TwoStageLoss


class ConNRCriterion(TwoStageLoss):
    """`TwoStageLoss` on lightly's scale, -cos. In stage 1 it is `NegativeCosineSimilarity()(queries, keys)`, bit for bit.

    Args:
        n_clusters, start, end, settings: of `TwoStageLoss`.
    """

    def __init__(self, n_clusters: int, start: int, end: int, **settings: Any) -> None:
        super().__init__(n_clusters, start, end, **{"scale": 0.5, **settings})

    def forward(
        self, queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], indices: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """As `TwoStageLoss.forward`."""
        if (
            self.clusters is None
        ):  # the same operations as lightly's, so that a run with ConNR shares its stage 1 with one without
            return -F.cosine_similarity(queries, keys.detach(), dim=1, eps=1e-8).mean()
        return super().forward(queries, keys, indices)
