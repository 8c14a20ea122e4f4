"""The fitted model: a network, its normalisation and an assigner."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from connr.clustering.assigners import Assigned, Assigner, Centroids
from connr.data.rows import Rows, parts
from connr.engine.extraction import AT_A_TIME, extract
from connr.errors import InputError
from connr.losses import normalize_rows
from connr.views import Augment, FeatureViews

PRETRAINED_AT_A_TIME = 64  # batch size: at 224 px the activations of more images take many GiB


class Model:
    """A fitted model. Thread-safe: it is not modified after construction.

    Attributes:
        representation: images, or rows of features, to features (n d); always in evaluation mode.
        assigner: features to clusters.
        mean, std: per channel, in [0, 1] units; images enter the network as (image - mean) / std. Of rows of features, per
            column.
        device: where the network is.
        takes_features: rows (n d), not images.
        backbone_config: of its pretrained backbone, `connr.networks.Backbone.backbone_config`.
        at_a_time: batch size of the network; with that of the fit, features are bitwise equal.
    """

    def __init__(
        self,
        representation: nn.Module,
        assigner: Assigner,
        mean: list[float],
        std: list[float],
        device: torch.device,
        *,
        takes_features: bool = False,
        backbone_config: dict[str, Any] | None = None,
    ) -> None:
        self.representation, self.assigner = representation.to(device).eval(), assigner.to(device).eval()
        self.mean, self.std, self.device = mean, std, device
        self.takes_features, self.backbone_config = takes_features, backbone_config
        self.at_a_time = PRETRAINED_AT_A_TIME if backbone_config else AT_A_TIME

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "centroids" in state:  # a pickle of version 0.1, which may hold a network in training mode
            state = {**state, "assigner": Centroids(state.pop("centroids"))}
            state["backbone_config"] = state.pop("made", None)
        self.__dict__.update(state)
        self.representation.eval()

    @property
    def n_clusters(self) -> int:
        """K."""
        return self.assigner.n_clusters

    def features(self, images: Rows) -> Float[Tensor, "n d"]:
        """Features (n d) without normalisation, on the device.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        views = (FeatureViews if self.takes_features else Augment)(self.mean, self.std)
        return finite(extract(self.representation, images, views.normalise, self.device, at_a_time=self.at_a_time))

    def transform(self, images: Rows) -> Float[Tensor, "n d"]:
        """L2-normalised features (n d), on the device.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        return normalize_rows(self.features(images))

    def through_backbone(self, images: Rows) -> Float[Tensor, "n f"]:
        """The features of images by the frozen backbone, on the device."""
        normalise, network = Augment(self.mean, self.std).normalise, self.representation.get_submodule("0")
        with torch.no_grad():
            return torch.cat([network(normalise(part.to(self.device))) for part in parts(images, self.at_a_time)])

    def from_backbone(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """L2-normalised features by the heads, from those of the frozen backbone."""
        with torch.no_grad():
            heads = nn.Sequential(*list(self.representation.children())[1:])
            return normalize_rows(finite(heads(features.to(self.device))))

    def assign(self, images: Rows) -> Assigned:
        """The cluster of each image, its distance and boundary ratio, on the CPU."""
        return self.assigner.assign(self.features(images))


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
        f"{int(bad[0])} of these: its weights are broken, or the rows are far from the training data."
    )
