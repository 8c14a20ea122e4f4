"""Passes over all images: features, clusters and neighbours."""

from copy import deepcopy
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.clustering.assigners import Assigner
from connr.clustering.kmeans import Clusters, kmeans
from connr.data.rows import Rows
from connr.distributed import Communicator
from connr.engine.extraction import evaluating, extract
from connr.engine.plan import Plan
from connr.errors import Diverged
from connr.losses import normalize_rows
from connr.methods.method import Method, Needs
from connr.randomness import stream


class Clustering(NamedTuple):
    """The clustering of all images.

    Attributes:
        assigner: fitted.
        clusters: with the assignments of all n images, in every process.
        feature_std: the standard deviation of the normalised features, mean over dimensions, times sqrt(d): about 1 when they
            fill the sphere, 0 when collapsed.
    """

    assigner: Assigner
    clusters: Clusters
    feature_std: float


def local_features(
    method: Method,
    images: Rows,
    plan: Plan,
    epoch: int,
    device: torch.device,
    communicator: Communicator,
    first: int = 0,
    end: int | None = None,
) -> Float[Tensor, "m d"]:
    """The features, not normalised, of this process's share of the images from `first` to `end`.

    Raises:
        Diverged: a feature is not finite.
    """
    share = communicator.share((len(images) if end is None else end) - first)
    with evaluating(method):
        features = extract(method.features(), images, plan.normalise, device, slice(first + share.start, first + share.stop))
    if communicator.any(not bool(features.isfinite().all())):
        raise Diverged(
            f"the network gives features that are not finite after epoch {epoch}; "
            f"try a lower learning rate than train.base_lr={plan.optimizer.lr:g}."
        )
    return features


def cluster(
    method: Method, images: Rows, plan: Plan, epoch: int, device: torch.device, communicator: Communicator
) -> Clustering:
    """Clusters all images with the method's assigner. Each process extracts and holds only its share of the features."""
    n, split = len(images), plan.clustered or len(images)
    features = local_features(method, images, plan, epoch, device, communicator, end=split)

    def by_kmeans(rows: Tensor, among: Communicator) -> Clusters:
        return kmeans(
            rows,
            plan.n_clusters,
            restarts=plan.restarts,
            max_iterations=plan.max_iterations,
            reseed_empty=plan.reseed_empty,
            generator=stream(plan.seed, "kmeans", epoch),
            communicator=among,
        )

    with evaluating(method):
        # A copy: what goes on training is not to change what is kept of it, in memory or in a checkpoint.
        assigner, clusters = deepcopy(method.assigner()).fit(features, by_kmeans, communicator)
    assignments = communicator.gather(clusters.assignments, total=split)
    if split < n:
        rest = local_features(method, images, plan, epoch, device, communicator, first=split)
        with evaluating(method):
            others = assigner.assign(rest).clusters.to(assignments)
        assignments = torch.cat([assignments, communicator.gather(others, total=n - split)])
    clusters = clusters._replace(assignments=assignments)
    if assigner.renumbers:
        clusters, order = renumbered(clusters, split)
        assigner = assigner.reordered(order)
    return Clustering(assigner, clusters, spread(normalize_rows(features), split, communicator))


def renumbered(clusters: Clusters, counted: int | None = None) -> tuple[Clusters, Int[Tensor, " K"]]:
    """Sorts clusters by size, largest first; equal sizes by their first image. Empty clusters are last.

    Equal clusterings get equal numbers, whatever the initialisation of k-means.

    Args:
        clusters: of all images.
        counted: the number of leading images that count for the sizes; None for all.

    Returns:
        The clusters, and (K) the old number of each new one.
    """
    members, k = clusters.assignments[:counted].cpu(), len(clusters.centroids)
    sizes = members.bincount(minlength=k)
    first = torch.full((k,), len(members)).scatter_reduce_(0, members, torch.arange(len(members)), "amin")
    order = (sizes * (len(members) + 1) - first).argsort(descending=True, stable=True)  # by size, then first member
    order = order.to(clusters.assignments.device)
    found = clusters._replace(centroids=clusters.centroids[order], assignments=order.argsort()[clusters.assignments])
    return found, order


def neighbours_and_features(
    method: Method, needs: Needs, images: Rows, plan: Plan, epoch: int, device: torch.device, communicator: Communicator
) -> tuple[Tensor | None, Tensor | None]:
    """The neighbours (n k) and normalised features (n d) of all images in every process; None for what is not needed."""
    if needs.neighbours is None and not needs.features:
        return None, None
    local = normalize_rows(local_features(method, images, plan, epoch, device, communicator))
    features = communicator.gather(local, total=len(images))
    neighbours = needs.neighbours(features) if needs.neighbours is not None else None
    return neighbours, features if needs.features else None


def spread(features: Float[Tensor, "b d"], n: int, communicator: Communicator) -> float:
    """`Clustering.feature_std` of n features, of which `features` are this process's share."""
    mean = communicator.sum(features.sum(dim=0)) / n
    variance = communicator.sum((features - mean).square().sum(dim=0)) / n
    return float(variance.sqrt().mean() * features.shape[1] ** 0.5)
