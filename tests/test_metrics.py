import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def entropy(values):
    return -sum(values.count(v) / len(values) * math.log(values.count(v) / len(values)) for v in set(values))


@given(pairs)
def test_nmi_is_mutual_information_over_the_mean_entropy(rows):
    labels, assignments = zip(*rows, strict=True)
    mean = (entropy(labels) + entropy(assignments)) / 2
    shared = entropy(labels) + entropy(assignments) - entropy(rows)
    assert metrics.nmi(labels, assignments) == pytest.approx(shared / mean if mean > 0 else 1.0, abs=1e-9)


@given(pairs)
def test_ari_counts_pairs(rows):
    together = [[rows[i][axis] == rows[j][axis] for axis in (0, 1)] for i in range(len(rows)) for j in range(i)]
    both = sum(a and b for a, b in together)
    in_labels, in_assignments = (sum(pair[axis] for pair in together) for axis in (0, 1))
    by_chance = in_labels * in_assignments / len(together) if together else 0
    most = (in_labels + in_assignments) / 2
    expected = (both - by_chance) / (most - by_chance) if most != by_chance else 1.0
    labels, assignments = zip(*rows, strict=True)
    assert metrics.ari(labels, assignments) == pytest.approx(expected, abs=1e-9)


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
    assert metrics.purity(labels, neighbours, np.array([True, False, True, True])) == 0.5


def test_nothing_to_score_is_said():
    with pytest.raises(ValueError, match="None of the 2 images has a label"):
        metrics.accuracy([-1, -1], [0, 1])
    with pytest.raises(ValueError, match=r"labels \(2,\) and assignments \(3,\)"):
        metrics.nmi([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="purity is undefined"):
        metrics.purity([0, -1], np.array([[0, 1], [1, 0]]))
