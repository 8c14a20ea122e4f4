"""Metrics of assignments against labels. Labels below 0 mean unlabelled and are ignored.

Inputs are 1-D sequences, arrays or tensors of integers. Numbers of clusters and of classes are free, and may differ.
scikit-learn is imported where it is used: with pandas, which it brings along, it takes 80 MiB, and few runs have labels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Integers = Sequence[int] | NDArray[np.integer] | Tensor


def accuracy(labels: Integers, assignments: Integers) -> float:
    """ACC in [0, 1]: the share of images in the right cluster under the best one-to-one matching of clusters to classes.

    The matching is the Hungarian one (Kuhn 1955). With more clusters than classes the unmatched clusters count as wrong.

    Raises:
        ValueError: the lengths differ, or nothing is labelled.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(*_labelled(labels, assignments))
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def nmi(labels: Integers, assignments: Integers) -> float:
    """NMI in [0, 1]: mutual information over the arithmetic mean of the two entropies.

    Raises:
        ValueError: the lengths differ, or nothing is labelled.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(*_labelled(labels, assignments), average_method="arithmetic"))


def ari(labels: Integers, assignments: Integers) -> float:
    """ARI in [-0.5, 1]: agreement over pairs of images, 0 on average for random assignments.

    Raises:
        ValueError: the lengths differ, or nothing is labelled.
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_labelled(labels, assignments)))


def purity(
    labels: Integers, neighbours: NDArray[np.integer] | Tensor, kept: NDArray[np.bool_] | Tensor | None = None
) -> float:
    """Neighbour purity in [0, 1] (Figure 2): the mean share of an anchor's neighbours that have its label.

    The anchor itself and unlabelled neighbours are left out, and so are anchors that are unlabelled or alone.

    Args:
        labels: (b).
        neighbours: (b k), indices into `labels`, as a neighbourhood returns them.
        kept: (b), the anchors to take the mean over; None for all.

    Raises:
        ValueError: no labelled anchor has a labelled neighbour.
    """
    classes, indices = np.asarray(labels), np.asarray(neighbours)
    counted = (indices != np.arange(len(classes))[:, None]) & (classes[indices] >= 0) & (classes[:, None] >= 0)
    same = counted & (classes[indices] == classes[:, None])
    anchors = counted.any(axis=1) & (True if kept is None else np.asarray(kept))
    if not anchors.any():
        raise ValueError("No labelled image has a labelled neighbour besides itself: purity is undefined.")
    return float((same.sum(axis=1)[anchors] / counted.sum(axis=1)[anchors]).mean())


def scores(labels: Integers, assignments: Integers) -> dict[str, float]:
    """ACC, NMI, ARI and n, the number of labelled images.

    Raises:
        ValueError: the lengths differ, or nothing is labelled.
    """
    return {
        "acc": accuracy(labels, assignments),
        "nmi": nmi(labels, assignments),
        "ari": ari(labels, assignments),
        "n": int((np.asarray(labels) >= 0).sum()),
    }


def _labelled(labels: Integers, assignments: Integers) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    classes, clusters = np.asarray(labels), np.asarray(assignments)
    if classes.shape != clusters.shape or classes.ndim != 1:
        raise ValueError(f"labels {classes.shape} and assignments {clusters.shape} should be two 1-D lists of one length.")
    known = classes >= 0
    if not known.any():
        raise ValueError(f"None of the {len(classes)} images has a label: nothing to score.")
    return classes[known], clusters[known]
