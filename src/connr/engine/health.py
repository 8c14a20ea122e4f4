"""What may be wrong with a run that goes on without an error, in words for the person who started it."""

from connr.clustering.kmeans import Clusters

COLLAPSED = 0.05  # of the spread of features that fill the sphere; a choice, not a measurement
CROWDED = 0.95  # of the images in one cluster


def warnings(clusters: Clusters, feature_std: float) -> list[str]:
    """Collapse, a cluster that has nearly everything, clusters that have nothing."""
    sizes = clusters.assignments.bincount(minlength=len(clusters.centroids))
    found, most, empty = [], float(sizes.max() / sizes.sum()), int((sizes == 0).sum())
    if feature_std < COLLAPSED:
        found.append(
            f"the features have collapsed: their spread is {feature_std:.3f}, where 1 fills the sphere; "
            "try a lower train.base_lr, a larger train.batch_size or a higher framework.target_momentum."
        )
    if most > CROWDED:
        found.append(f"{most:.1%} of the images are in one cluster.")
    if empty:
        found.append(f"{empty} of {len(sizes)} clusters are empty.")
    return found
