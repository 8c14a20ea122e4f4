"""The journey of an epoch: features of all images -> k-means -> the clusters of the next epoch's anchor filter."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from connr.data.rows import Rows
from connr.errors import Diverged
from connr.frameworks import Framework
from connr.kmeans import Clusters, kmeans
from connr.randomness import stream
from connr.ranks import Ranks
from connr.training.features import extract
from connr.training.plan import Plan


class Clustered(NamedTuple):
    """The clusters, with the assignments of all n images on every rank.

    feature_std: the standard deviation of the features, mean over dimensions, times sqrt(d): about 1 when they spread over
    the sphere, 0 when collapsed.
    """

    clusters: Clusters
    feature_std: float


def cluster(framework: Framework, images: Rows, plan: Plan, epoch: int, device: torch.device, ranks: Ranks) -> Clustered:
    """Each rank extracts the features of its share of the images; none ever holds all (n d) of them.

    Clusters are numbered by size, see `renumbered`.

    Raises:
        Diverged: a feature is not finite.
    """
    n = len(images)
    features = extract(framework.representation, images, plan.stages[0].views.normalise, device, ranks.share(n))
    if ranks.any(not bool(features.isfinite().all())):
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
        ranks=ranks,
    )
    clusters = renumbered(own._replace(assignments=ranks.gather(own.assignments, total=n)))
    return Clustered(clusters, spread(features, n, ranks))


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


def spread(features: Float[Tensor, "b d"], n: int, ranks: Ranks) -> float:
    """`Clustered.feature_std`; the features are this rank's share of n."""
    mean = ranks.sum(features.sum(dim=0)) / n
    variance = ranks.sum((features - mean).square().sum(dim=0)) / n
    return float(variance.sqrt().mean() * features.shape[1] ** 0.5)
