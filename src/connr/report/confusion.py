"""The confusion table of labels and clusters in the order of the best matching, and its largest errors."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from connr.report.reading import AssignmentTable


class Confusion(NamedTuple):
    """Counts of label x cluster. Where both matchings exist, row i and column i are matched.

    table: (C K), its rows in the order of `classes`, its columns in that of `clusters`.
    matched: how many of the first rows and columns are pairs.
    """

    table: NDArray[np.int64]
    classes: list[int]
    clusters: list[int]
    matched: int


class Mistake(NamedTuple):
    """Images of a label in a cluster that is matched to another one, or to none (None)."""

    label: int
    cluster: int
    matched_to: int | None
    of: int
    images: Int[Tensor, " m"]


def confusion(rows: AssignmentTable, n_clusters: int) -> Confusion:
    """The table of the labelled images, ordered so that the matching of ACC (Hungarian) runs down the diagonal."""
    known = rows.labels >= 0
    cells = rows.labels[known] * n_clusters + rows.assigned.clusters[known]
    n_classes = len(rows.class_names)
    table = torch.bincount(cells, minlength=n_classes * n_clusters).view(n_classes, n_clusters).numpy()
    pairs = [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(table, maximize=True), strict=True)]
    classes = [i for i, _ in pairs] + [i for i in range(n_classes) if i not in {i for i, _ in pairs}]
    clusters = [j for _, j in pairs] + [j for j in range(n_clusters) if j not in {j for _, j in pairs}]
    return Confusion(table[np.ix_(classes, clusters)], classes, clusters, len(pairs))


def worst(found: Confusion, rows: AssignmentTable, most: int) -> list[Mistake]:
    """The largest cells off the matching, by number of images; images of each by decreasing confidence."""
    off = found.table.copy()
    off[range(found.matched), range(found.matched)] = 0
    mistakes = []
    for cell in np.argsort(-off, axis=None, kind="stable")[:most].tolist():
        row, column = divmod(cell, off.shape[1])
        if off[row, column] == 0:
            break
        label, cluster = found.classes[row], found.clusters[column]
        members = ((rows.labels == label) & (rows.assigned.clusters == cluster)).nonzero().flatten()
        surest = members[rows.assigned.ratios[members].argsort(stable=True)]
        matched_to = found.classes[column] if column < found.matched else None
        mistakes.append(Mistake(label, cluster, matched_to, int(found.table[row].sum()), surest))
    return mistakes
