"""The whole way from pixels to a cluster as one module, the normalisation inside."""

from copy import deepcopy

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from connr.frameworks.framework import on_sphere


class Deployed(nn.Module):
    """uint8 images, or rows of features, -> features, cluster, distance; in single precision, whatever the run was in.

    Args:
        representation: encoder and projector.
        centroids: (K d), of L2-normalised features.
        mean, std: per channel, in [0, 1] units; of rows, per column.
        takes_features: rows (n d), not images.
    """

    centroids: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        representation: nn.Module,
        centroids: Float[Tensor, "K d"],
        mean: list[float],
        std: list[float],
        takes_features: bool = False,
    ) -> None:
        super().__init__()
        if any(part.dtype == torch.float64 for part in representation.state_dict().values()):
            representation = deepcopy(representation).float()
        self.representation = representation
        self.register_buffer("centroids", centroids.float())
        self.takes_features, shape = takes_features, (-1,) if takes_features else (-1, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)  # in config.json
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(
        self, images: UInt8[Tensor, "n h w c"] | Float[Tensor, "n f"]
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"], Float[Tensor, " n"]]:
        """Images as arrays of pictures are, channels last; already square and of the recipe's size and channels. Rows
        of features as they are.

        Returns:
            L2-normalised features (n d), the number of the nearest centroid (n), the distance to it (n) in [0, 2].
        """
        pixels = images if self.takes_features else images.permute(0, 3, 1, 2).float() / 255
        features = on_sphere(self.representation((pixels - self.mean) / self.std))
        # Differences, not |f|^2 - 2<f,c> + |c|^2: the distances are those of `connr.model.place`.
        distances = torch.linalg.vector_norm(features.unsqueeze(1) - self.centroids, dim=2)
        nearest = distances.min(dim=1)
        return features, nearest.indices, nearest.values
