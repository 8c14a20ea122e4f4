"""More neighbours are asked for than a batch has images of a cluster: some are then wrong, however good the search is."""

from math import exp, lgamma, log

from connr.recipe.recipe import Recipe
from connr.recipe.stages import Contextual, Local


def crowded(r: Recipe) -> str | None:
    """What to know before a run whose k exceeds the images of a cluster of mean size in a batch, and the way out.

    Args:
        r: a recipe. One without `clusters`, without stage 2 or without neighbours has nothing to be said of.

    Returns:
        A sentence or two; None where k is not too large.
    """
    near, pool = r.group.neighbourhood, r.train.batch_size + r.group.memory
    if r.clusters is None or r.t0 >= r.train.epochs or not isinstance(near, Local | Contextual) or near.k * r.clusters <= pool:
        return None
    memory = f" + group.memory={r.group.memory}" if r.group.memory else ""
    return (
        f"group.neighbourhood.k={near.k} is more than the {pool / r.clusters:.1f} images that a cluster of mean size has "
        f"among train.batch_size={r.train.batch_size}{memory}: beside the image itself at most "
        f"{best_purity(pool, r.clusters, near.k):.0%} of its neighbours can be of its cluster, on average. "
        f"To have enough: train.batch_size={near.k * r.clusters}, or "
        f"group.memory={near.k * r.clusters - r.train.batch_size}, or a lower k."
    )


def best_purity(pool: int, clusters: int, k: int) -> float:
    """The share of an image's k - 1 other neighbours that a perfect search finds in its cluster, on average; clusters > 1.

    Of `pool` images, each of one of `clusters` clusters with equal probability, the image's own cluster has X others,
    binomial, and the search finds min(X, k - 1) of them.
    """
    others, most = pool - 1, k - 1

    def probability(x: int) -> float:  # of X = x, by logarithms: the binomial coefficients of large pools are no floats
        ways = lgamma(others + 1) - lgamma(x + 1) - lgamma(others - x + 1)
        return exp(ways - x * log(clusters) + (others - x) * log(1 - 1 / clusters))

    missed = sum((most - x) * probability(x) for x in range(min(most, others + 1)))
    return 1 - missed / most if most else 1.0
