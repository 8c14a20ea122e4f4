"""The whole way from pixels to a cluster as one module, the normalisation inside."""

from copy import deepcopy

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from connr.clustering.assigners import Assigner
from connr.losses import normalize_rows


class Deployed(nn.Module):
    """uint8 images, or rows of features, -> features, cluster, distance; in single precision, whatever the run was in.

    Args:
        representation: images, or rows, to features.
        assigner: features to clusters.
        mean, std: per channel, in [0, 1] units; of rows, per column.
        takes_features: rows (n d), not images.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        representation: nn.Module,
        assigner: Assigner,
        mean: list[float],
        std: list[float],
        takes_features: bool = False,
    ) -> None:
        super().__init__()
        double = any(part.dtype == torch.float64 for part in representation.state_dict().values())
        self.representation = deepcopy(representation).float() if double else representation
        self.assigner = deepcopy(assigner).float()
        self.takes_features, shape = takes_features, (-1,) if takes_features else (-1, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)  # in config.json
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(
        self, images: UInt8[Tensor, "n h w c"] | Float[Tensor, "n f"]
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"], Float[Tensor, " n"]]:
        """Images as arrays of pictures are, channels last; already square and of the recipe's size and channels. Rows
        of features as they are.

        Returns:
            L2-normalised features (n d), the cluster (n), and how far it is (n): the distance to its centroid in [0, 2], or
            of a head 1 - its probability.
        """
        pixels = images if self.takes_features else images.permute(0, 3, 1, 2).float() / 255
        features = self.representation((pixels - self.mean) / self.std)
        clusters, distances = self.assigner(features)
        return normalize_rows(features), clusters, distances
