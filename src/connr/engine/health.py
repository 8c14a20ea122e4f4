"""Warnings about a run that does not fail but may be useless: collapse, one huge cluster, empty clusters."""

from connr.clustering.kmeans import Clusters

COLLAPSED = 0.05  # a lower `feature_std` is reported; 1 for features that fill the sphere. Chosen by hand.
CROWDED = 0.95  # a larger share of the images in one cluster is reported


def warnings(clusters: Clusters, feature_std: float) -> list[str]:
    """Messages for the user about an epoch.

    Args:
        clusters: of all images.
        feature_std: see `engine.whole_set.Clustering`.
    """
    sizes = clusters.assignments.bincount(minlength=len(clusters.centroids))
    found, most, empty = [], float(sizes.max() / sizes.sum()), int((sizes == 0).sum())
    if feature_std < COLLAPSED:
        found.append(
            f"the features have collapsed: their spread is {feature_std:.3f}, where 1 fills the sphere; "
            "try a lower train.base_lr, a larger train.batch_size or a higher target momentum of the method."
        )
    if most > CROWDED:
        found.append(f"{most:.1%} of the images are in one cluster.")
    if empty:
        found.append(f"{empty} of {len(sizes)} clusters are empty.")
    return found
