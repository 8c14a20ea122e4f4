"""The journey of an epoch: features of all images -> k-means -> the clusters of the next epoch's anchor filter."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from connr.clustering.kmeans import Clusters, kmeans
from connr.data.rows import Rows
from connr.distributed import Communicator
from connr.engine.extraction import evaluating, extract
from connr.engine.plan import Plan
from connr.errors import Diverged
from connr.frameworks import Framework
from connr.randomness import stream


class Clustered(NamedTuple):
    """The clusters, with the assignments of all n images on every rank.

    feature_std: the standard deviation of the features, mean over dimensions, times sqrt(d): about 1 when they spread over
    the sphere, 0 when collapsed.
    """

    clusters: Clusters
    feature_std: float


def cluster(
    framework: Framework, images: Rows, plan: Plan, epoch: int, device: torch.device, communicator: Communicator
) -> Clustered:
    """Each rank extracts the features of its share of the images; none ever holds all (n d) of them.

    k-means is for the first `plan.clustered` images; the others go to the nearest centroid.
    Clusters are numbered by size, see `renumbered`.

    Raises:
        Diverged: a feature is not finite.
    """
    n, split = len(images), plan.clustered or len(images)
    normalise, share = plan.stages[0].views.normalise, communicator.share(n - split)
    with evaluating(framework.representation):
        features = extract(framework.representation, images, normalise, device, communicator.share(split))
    if communicator.any(not bool(features.isfinite().all())):
        raise Diverged(
            f"the network gives features that are not finite after epoch {epoch}; "
            f"try a lower train.base_lr than {plan.base_lr:g}."
        )
    own = kmeans(
        features,
        plan.n_clusters,
        restarts=plan.restarts,
        max_iterations=plan.max_iterations,
        reseed_empty=plan.reseed_empty,
        generator=stream(plan.seed, "kmeans", epoch),
        communicator=communicator,
    )
    assignments = communicator.gather(own.assignments, total=split)
    if split < n:
        with evaluating(framework.representation):
            rest = extract(framework.representation, images, normalise, device, slice(split + share.start, split + share.stop))
        others = communicator.gather(nearest(rest, own.centroids), total=n - split)
        assignments = torch.cat([assignments, others])
    return Clustered(renumbered(own._replace(assignments=assignments)), spread(features, split, communicator))


def nearest(features: Float[Tensor, "b d"], centroids: Float[Tensor, "K d"]) -> Int[Tensor, " b"]:
    """The nearest centroid of each row."""
    return torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)


def renumbered(clusters: Clusters) -> Clusters:
    """The same clusters, the largest first; of equally large ones, that with the first image. Empty ones come last.

    Equal clusterings so have equal numbers, whatever k-means started from.
    """
    members, k = clusters.assignments.cpu(), len(clusters.centroids)
    sizes = members.bincount(minlength=k)
    first = torch.full((k,), len(members)).scatter_reduce_(0, members, torch.arange(len(members)), "amin")
    order = (sizes * (len(members) + 1) - first).argsort(descending=True, stable=True)  # by size, then first member
    order = order.to(clusters.assignments.device)
    return clusters._replace(centroids=clusters.centroids[order], assignments=order.argsort()[clusters.assignments])


def spread(features: Float[Tensor, "b d"], n: int, communicator: Communicator) -> float:
    """`Clustered.feature_std`; the features are this rank's share of n."""
    mean = communicator.sum(features.sum(dim=0)) / n
    variance = communicator.sum((features - mean).square().sum(dim=0)) / n
    return float(variance.sqrt().mean() * features.shape[1] ** 0.5)
