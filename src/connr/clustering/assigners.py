"""Assigners: features to clusters, by the nearest centroid or by a trained head."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from connr.clustering.boundary import boundary_ratio
from connr.clustering.kmeans import Clusters
from connr.distributed import Communicator
from connr.losses import normalize_rows

KMeans = Callable[[Tensor, Communicator], Clusters]  # this process's rows -> their clusters


class Assigned(NamedTuple):
    """The assignments of images.

    Attributes:
        clusters: (n), 0 <= value < K.
        distances: (n), to the centroid, of L2-normalised features, in [0, 2]; of a head, 1 - its largest probability.
        ratios: (n), how near the image is to the next cluster: 0 is certain, 1 is on the boundary (Eq. 11); of a head, the
            second largest probability over the largest.
        runners_up: (n), the next cluster; None where the rest was read from assignments.csv, which has no such column.
    """

    clusters: Int[Tensor, " n"]
    distances: Float[Tensor, " n"]
    ratios: Float[Tensor, " n"]
    runners_up: Int[Tensor, " n"] | None = None

    @property
    def confidences(self) -> Float[Tensor, " n"]:
        """1 - ratio, in [0, 1]: 1 is certain, 0 is on the boundary to the next cluster. Not a probability."""
        return (1 - self.ratios).clamp(0, 1)


class Assigner(nn.Module, ABC):
    """Features (b d), as `Method.features()` gives them, to clusters."""

    renumbers: ClassVar[bool] = False  # whether clusters may change their numbers, as those of k-means may

    @property
    @abstractmethod
    def n_clusters(self) -> int:
        """K."""

    def reordered(self, order: Int[Tensor, " K"]) -> "Assigner":
        """The same assigner, its cluster i being what was cluster order[i]."""
        return self

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes the state dict of a fitted assigner of this kind.

        Raises:
            ValueError: its tensors are not those of this assigner.
        """
        own, found = ({name: tuple(value.shape) for name, value in of.items()} for of in (self.state_dict(), tensors))
        if own != found:
            raise ValueError(f"its assigner has tensors {str(found)[:200]}, should have {str(own)[:200]} by its recipe")
        self.load_state_dict(tensors)

    def fit(self, features: Float[Tensor, "b d"], kmeans: KMeans, communicator: Communicator) -> tuple["Assigner", Clusters]:
        """The assigner that is ready for use, and the clusters of these features.

        Args:
            features: this process's share of the training set's features; not normalised.
            kmeans: for assigners that need it.
            communicator: between the processes that have the other shares.
        """
        assigned = self.assign(features)
        centroids = class_means(normalize_rows(features), assigned.clusters, self.n_clusters, communicator)
        inertia = communicator.sum(assigned.distances.to(features.device).double().square().sum())
        return self, Clusters(centroids, assigned.clusters.to(features.device), float(inertia))

    @abstractmethod
    def assign(self, features: Float[Tensor, "b d"]) -> Assigned:
        """The cluster of each image, and how certain it is; on the CPU."""

    @abstractmethod
    def forward(self, features: Float[Tensor, "b d"]) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
        """Clusters (b) and distances (b), by operations that every export format has."""


class Centroids(Assigner):
    """The nearest of K centroids, of L2-normalised features.

    Args:
        centroids: (K d); None before `fit`.
    """

    renumbers: ClassVar[bool] = True

    centroids: Tensor

    def __init__(self, centroids: Float[Tensor, "K d"] | None = None) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.empty(0, 0) if centroids is None else centroids)

    @property
    def n_clusters(self) -> int:
        return len(self.centroids)

    def fit(self, features: Float[Tensor, "b d"], kmeans: KMeans, communicator: Communicator) -> tuple["Centroids", Clusters]:
        clusters = kmeans(normalize_rows(features), communicator)
        return Centroids(clusters.centroids), clusters

    def reordered(self, order: Int[Tensor, " K"]) -> "Centroids":
        return Centroids(self.centroids[order])

    def restore(self, tensors: dict[str, Tensor]) -> None:
        if set(tensors) != {"centroids"} or tensors["centroids"].ndim != 2:
            raise ValueError("its centroids are missing, or not rows of numbers")
        self.centroids = tensors["centroids"]

    def assign(self, features: Float[Tensor, "b d"]) -> Assigned:
        return nearest_centroid(normalize_rows(features), self.centroids)

    def forward(self, features: Float[Tensor, "b d"]) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
        # Differences, not |f|^2 - 2<f,c> + |c|^2: the distances are those of `nearest_centroid`.
        distances = torch.linalg.vector_norm(normalize_rows(features).unsqueeze(1) - self.centroids, dim=2)
        nearest = distances.min(dim=1)
        return nearest.indices, nearest.values


class Head(Assigner):
    """The largest of K probabilities that a trained head gives.

    Args:
        head: features (b d) to logits (b K), or to probabilities.
        n_clusters: K >= 1.
        probabilities: whether the head gives probabilities.
    """

    def __init__(self, head: nn.Module, n_clusters: int, probabilities: bool = False) -> None:
        super().__init__()
        self.head, self._n_clusters, self._probabilities = head, n_clusters, probabilities

    @property
    def n_clusters(self) -> int:
        return self._n_clusters

    def probabilities(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b K"]:
        """Of each cluster."""
        scores: Tensor = self.head(features)
        return scores if self._probabilities else scores.softmax(dim=1)

    def assign(self, features: Float[Tensor, "b d"]) -> Assigned:
        with torch.no_grad():
            p = self.probabilities(features).float()
        best = p.max(dim=1)
        rest = p.scatter(1, best.indices.unsqueeze(1), -1.0)
        second = rest.max(dim=1)
        ratios = torch.zeros_like(best.values) if p.shape[1] == 1 else second.values / best.values
        runners_up = best.indices if p.shape[1] == 1 else second.indices
        return Assigned(best.indices.cpu(), (1 - best.values).cpu(), ratios.cpu(), runners_up.cpu())

    def forward(self, features: Float[Tensor, "b d"]) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
        best = self.probabilities(features).max(dim=1)
        return best.indices, 1 - best.values


def nearest_centroid(features: Float[Tensor, "n d"], centroids: Float[Tensor, "K d"]) -> Assigned:
    """Normalised features to their nearest centroid, the distance to it, the boundary ratio and the next one; on the CPU.

    With one centroid there is no boundary: every ratio is 0, and the next cluster is the same one.
    """
    distances = torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.min(dim=1)
    runners_up = distances.scatter(1, nearest.indices.unsqueeze(1), torch.inf).argmin(dim=1)
    single = len(centroids) == 1
    ratios = torch.zeros_like(nearest.values) if single else boundary_ratio(features, centroids, nearest.indices)
    return Assigned(nearest.indices.cpu(), nearest.values.cpu(), ratios.cpu(), runners_up.cpu())


def class_means(
    features: Float[Tensor, "b d"], clusters: Int[Tensor, " b"], n_clusters: int, communicator: Communicator
) -> Float[Tensor, "K d"]:
    """The mean feature of each cluster over all processes; 0 for an empty one."""
    clusters = clusters.to(features.device)
    sums = features.new_zeros(n_clusters, features.shape[1]).index_add_(0, clusters, features)
    counts = features.new_zeros(n_clusters).index_add_(0, clusters, torch.ones_like(clusters, dtype=features.dtype))
    return communicator.sum(sums) / communicator.sum(counts).clamp(min=1).unsqueeze(1)
