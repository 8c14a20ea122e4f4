"""What a fit leaves behind: a network, its normalisation and the centroids. Assigns images it has never seen."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.augment import Augment
from connr.boundary import boundary_ratio
from connr.data.rows import Rows
from connr.training.features import extract


class Assigned(NamedTuple):
    """Per image: its cluster, the distance d_own = |f - c|, the boundary ratio of Eq. 11, the next cluster.

    `runners_up` is None where the rest was read back from assignments.csv, which has no such column.
    """

    clusters: Int[Tensor, " n"]
    distances: Float[Tensor, " n"]
    ratios: Float[Tensor, " n"]
    runners_up: Int[Tensor, " n"] | None = None

    @property
    def confidences(self) -> Float[Tensor, " n"]:
        """1 - ratio = 1 - d_own / d_next in [0, 1]: 1 on the centroid, 0 half-way to the next one. Not a probability."""
        return (1 - self.ratios).clamp(0, 1)


class Model:
    """A fitted clustering.

    Attributes:
        representation: encoder and projector.
        centroids: (K d), of L2-normalised features.
        mean, std: per channel, in [0, 1] units; images enter the network as (image - mean) / std.
        device: where the network is.
    """

    def __init__(
        self,
        representation: nn.Module,
        centroids: Float[Tensor, "K d"],
        mean: list[float],
        std: list[float],
        device: torch.device,
    ) -> None:
        self.representation, self.centroids = representation.to(device), centroids.to(device)
        self.mean, self.std, self.device = mean, std, device

    def transform(self, images: Rows) -> Float[Tensor, "n d"]:
        """L2-normalised features, on the device."""
        return extract(self.representation, images, Augment(self.mean, self.std).normalise, self.device)

    def assign(self, images: Rows) -> Assigned:
        """The nearest centroid of each image, how far it is and how near a boundary; on the CPU."""
        return place(self.transform(images), self.centroids)


def place(features: Float[Tensor, "n d"], centroids: Float[Tensor, "K d"]) -> Assigned:
    """Features -> nearest centroid, distance to it, boundary ratio, next centroid; on the CPU."""
    distances = torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.min(dim=1)
    runners_up = distances.scatter(1, nearest.indices.unsqueeze(1), torch.inf).argmin(dim=1)
    ratios = boundary_ratio(features, centroids, nearest.indices)
    return Assigned(nearest.indices.cpu(), nearest.values.cpu(), ratios.cpu(), runners_up.cpu())
