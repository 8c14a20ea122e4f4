"""A warning if a batch has fewer images per cluster than neighbours: some neighbours are then wrong."""

from math import exp, lgamma, log

from connr.recipe.recipe import Recipe


def crowded(r: Recipe) -> str | None:
    """A message if k exceeds the images of a cluster of mean size in a batch, with the way out; None otherwise.

    Args:
        r: a recipe. One without `clusters`, without stage 2 or without neighbours gives None.

    Returns:
        A sentence or two; None where k is not too large.
    """
    group = getattr(r.method, "group", None)
    k, start = getattr(getattr(group, "neighbourhood", None), "k", None), getattr(r.method, "start", 1)
    if r.clusters is None or group is None or k is None or round(start * r.train.epochs) >= r.train.epochs:
        return None
    pool = r.train.batch_size + group.memory
    if k * r.clusters <= pool:
        return None
    memory = f" + method.group.memory={group.memory}" if group.memory else ""
    return (
        f"method.group.neighbourhood.k={k} is more than the {pool / r.clusters:.1f} images that a cluster of mean size has "
        f"among train.batch_size={r.train.batch_size}{memory}: besides the image itself at most "
        f"{best_purity(pool, r.clusters, k):.0%} of its neighbours can be of its cluster, on average. "
        f"To have enough: train.batch_size={k * r.clusters}, or "
        f"method.group.memory={k * r.clusters - r.train.batch_size}, or a lower k."
    )


def best_purity(pool: int, clusters: int, k: int) -> float:
    """The share of an image's k - 1 other neighbours that a perfect search finds in its cluster, on average; clusters > 1.

    Of `pool` images, each of one of `clusters` clusters with equal probability, the image's own cluster has X others,
    binomial, and the search finds min(X, k - 1) of them.
    """
    others, most = pool - 1, k - 1

    def probability(x: int) -> float:  # of X = x, with logarithms, as binomial coefficients of large pools overflow
        ways = lgamma(others + 1) - lgamma(x + 1) - lgamma(others - x + 1)
        return exp(ways - x * log(clusters) + (others - x) * log(1 - 1 / clusters))

    missed = sum((most - x) * probability(x) for x in range(min(most, others + 1)))
    return 1 - missed / most if most else 1.0
