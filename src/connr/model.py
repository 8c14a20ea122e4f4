"""What a fit leaves behind: a network, its normalisation and the centroids. Assigns images it has never seen."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.clustering.boundary import boundary_ratio
from connr.data.rows import Rows, parts
from connr.engine.extraction import AT_A_TIME, extract
from connr.errors import InputError
from connr.frameworks.framework import on_sphere
from connr.views import Augment, FeatureViews

PRETRAINED_AT_A_TIME = 64  # images: at 224 px the activations of more take many GiB


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
    """A fitted clustering. Threads may share it: nothing is written to it once it is made.

    Attributes:
        representation: encoder and projector, in evaluation mode for good.
        centroids: (K d), of L2-normalised features.
        mean, std: per channel, in [0, 1] units; images enter the network as (image - mean) / std. Of rows of features, per
            column.
        device: where the network is.
        takes_features: rows (n d), not images.
        made: how to make its pretrained backbone again, `connr.networks.Backbone.made`.
        at_a_time: images that the network is given together; the same as when it was fitted, for the very same features.
    """

    def __init__(
        self,
        representation: nn.Module,
        centroids: Float[Tensor, "K d"],
        mean: list[float],
        std: list[float],
        device: torch.device,
        *,
        takes_features: bool = False,
        backbone_config: dict[str, Any] | None = None,
    ) -> None:
        self.representation, self.centroids = representation.to(device).eval(), centroids.to(device)
        self.mean, self.std, self.device = mean, std, device
        self.takes_features, self.backbone_config = takes_features, backbone_config
        self.at_a_time = PRETRAINED_AT_A_TIME if backbone_config else AT_A_TIME

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.representation.eval()  # pickles of version 0.1 hold networks in training mode

    def transform(self, images: Rows) -> Float[Tensor, "n d"]:
        """L2-normalised features, on the device.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        views = (FeatureViews if self.takes_features else Augment)(self.mean, self.std)
        return finite(extract(self.representation, images, views.normalise, self.device, at_a_time=self.at_a_time))

    def through_backbone(self, images: Rows) -> Float[Tensor, "n f"]:
        """What a frozen backbone makes of images, on the device."""
        normalise, network = Augment(self.mean, self.std).normalise, self.representation.get_submodule("0")
        with torch.no_grad():
            return torch.cat([network(normalise(part.to(self.device))) for part in parts(images, self.at_a_time)])

    def from_backbone(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """What the heads make of that: L2-normalised features."""
        with torch.no_grad():
            heads = nn.Sequential(*list(self.representation.children())[1:])
            return finite(on_sphere(heads(features.to(self.device))))

    def assign(self, images: Rows) -> Assigned:
        """The nearest centroid of each image, how far it is and how near a boundary; on the CPU."""
        return place(self.transform(images), self.centroids)


def finite(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The same features.

    Raises:
        InputError: one is NaN or infinite: no distance to them means anything.
    """
    if bool(features.isfinite().all()):
        return features
    bad = (~features.isfinite().all(dim=1)).nonzero().flatten()
    raise InputError(
        f"the model gives features that are NaN or infinite for {len(bad):,} of {len(features):,} rows, the first is row "
        f"{int(bad[0])} of these: its weights are broken, or the rows are far from those that it was fitted on."
    )


def place(features: Float[Tensor, "n d"], centroids: Float[Tensor, "K d"]) -> Assigned:
    """Features -> nearest centroid, distance to it, boundary ratio, next centroid; on the CPU.

    With one centroid there is no boundary: every ratio is 0, and the next cluster is the same one.
    """
    distances = torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.min(dim=1)
    runners_up = distances.scatter(1, nearest.indices.unsqueeze(1), torch.inf).argmin(dim=1)
    alone = len(centroids) == 1
    ratios = torch.zeros_like(nearest.values) if alone else boundary_ratio(features, centroids, nearest.indices)
    return Assigned(nearest.indices.cpu(), nearest.values.cpu(), ratios.cpu(), runners_up.cpu())
