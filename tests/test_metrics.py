from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from connr import metrics

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=25)


def brute_force_accuracy(labels, assignments):
    """The best of all one-to-one matchings, tried one by one."""
    size = max(*labels, *assignments) + 1
    return max(
        sum(matching[a] == y for y, a in zip(labels, assignments, strict=True)) / len(labels)
        for matching in permutations(range(size))
    )


@given(pairs)
def test_accuracy_is_the_best_of_all_matchings(rows):
    labels, assignments = zip(*rows, strict=True)
    assert metrics.accuracy(labels, assignments) == pytest.approx(brute_force_accuracy(labels, assignments))
    assert metrics.accuracy(assignments, labels) == pytest.approx(brute_force_accuracy(labels, assignments))


@given(pairs)
def test_nmi_and_ari_are_scikit_learns(rows):
    labels, assignments = zip(*rows, strict=True)
    assert metrics.nmi(labels, assignments) == pytest.approx(normalized_mutual_info_score(labels, assignments))
    assert metrics.ari(labels, assignments) == pytest.approx(adjusted_rand_score(labels, assignments))


def test_numbers_of_clusters_and_classes_are_free():
    assert metrics.accuracy([0, 0, 1, 1], [0, 1, 2, 3]) == 0.5
    assert metrics.accuracy([0, 1, 2, 3], [7, 7, 7, 7]) == 0.25
    assert metrics.accuracy([5, 5, 900], [1000, 1000, 2]) == 1.0


@given(pairs, st.lists(st.integers(0, 4), max_size=5))
def test_the_unlabelled_are_left_out(rows, unlabelled):
    labels, assignments = (list(column) for column in zip(*rows, strict=True))
    with_more = metrics.scores(labels + [-1] * len(unlabelled), assignments + unlabelled)
    assert with_more == metrics.scores(labels, assignments)
    assert with_more["n"] == len(labels)


def test_purity_counts_neighbours_of_the_same_label():
    labels = [0, 0, 1, -1]
    neighbours = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 3], [3, 0, 1]])
    # anchor 0: itself out, 1 right, 2 wrong; anchor 1: 0 right, 3 unlabelled; anchors 2 and 3 have nothing to count
    assert metrics.purity(labels, neighbours) == pytest.approx((0.5 + 1.0) / 2)


def test_nothing_to_score_is_said():
    with pytest.raises(ValueError, match="None of the 2 images has a label"):
        metrics.accuracy([-1, -1], [0, 1])
    with pytest.raises(ValueError, match=r"labels \(2,\) and assignments \(3,\)"):
        metrics.nmi([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="purity is undefined"):
        metrics.purity([0, -1], np.array([[0, 1], [1, 0]]))
