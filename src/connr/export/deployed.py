"""The whole way from pixels to a cluster as one module, the normalisation inside."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from connr.frameworks.framework import on_sphere


class Deployed(nn.Module):
    """uint8 images -> features, cluster, distance.

    Args:
        representation: encoder and projector.
        centroids: (K d), of L2-normalised features.
        mean, std: per channel, in [0, 1] units.
    """

    centroids: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, representation: nn.Module, centroids: Float[Tensor, "K d"], mean: list[float], std: list[float]
    ) -> None:
        super().__init__()
        self.representation = representation
        self.register_buffer("centroids", centroids)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)  # in config.json
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: UInt8[Tensor, "n h w c"]) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"], Float[Tensor, " n"]]:
        """Images as arrays of pictures are, channels last; already square and of the recipe's size and channels.

        Returns:
            L2-normalised features (n d), the number of the nearest centroid (n), the distance to it (n) in [0, 2].
        """
        pixels = images.permute(0, 3, 1, 2).float() / 255
        features = on_sphere(self.representation((pixels - self.mean) / self.std))
        # Differences, not |f|^2 - 2<f,c> + |c|^2: the distances are those of `connr.model.place`.
        distances = torch.linalg.vector_norm(features.unsqueeze(1) - self.centroids, dim=2)
        nearest = distances.min(dim=1)
        return features, nearest.indices, nearest.values
