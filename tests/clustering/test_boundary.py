import math

import oracles
import pytest
import torch
from conftest import tied_features, unit_rows
from hypothesis import example, given
from hypothesis import strategies as st

from connr.clustering.boundary import boundary_ratio, keep


@given(tied_features(), tied_features(smallest=2, largest=6), st.data())
def test_ratio_is_the_oracle(features, centroids, data):
    assignments = data.draw(st.lists(st.integers(0, len(centroids) - 1), min_size=len(features), max_size=len(features)))
    found = boundary_ratio(features, centroids, torch.tensor(assignments))
    assert found.tolist() == pytest.approx(
        oracles.boundary_ratio(features.tolist(), centroids.tolist(), assignments), abs=1e-12
    )


def test_ratio_in_single_precision_is_the_oracle():
    features, centroids = unit_rows(200, 64, 0), unit_rows(10, 64, 1)
    assignments = torch.cdist(features, centroids).argmin(dim=1)
    expected = oracles.boundary_ratio(features.tolist(), centroids.tolist(), assignments.tolist())
    assert boundary_ratio(features.float(), centroids.float(), assignments).tolist() == pytest.approx(expected, abs=1e-5)


def test_ratio_orders_as_own_over_next_distance():
    features, centroids = unit_rows(100, 8, 2), unit_rows(5, 8, 3)
    distances = torch.cdist(features, centroids).sort(dim=1)
    ratios = boundary_ratio(features, centroids, distances.indices[:, 0])
    assert torch.equal(ratios.argsort(), (distances.values[:, 0] / distances.values[:, 1]).argsort())


def test_landmarks():
    centroids = torch.tensor([[0.0], [2.0]])
    ratios = boundary_ratio(torch.tensor([[0.0], [1.0], [2.0]]), centroids, torch.tensor([0, 0, 0]))
    assert ratios.tolist() == [0.0, 1.0, 2.0]
    assert boundary_ratio(torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([0])).tolist() == [1.0]


def test_one_centroid_has_no_boundary():
    with pytest.raises(ValueError, match="at least 2 centroids, got 1"):
        boundary_ratio(torch.zeros(3, 2), torch.zeros(1, 2), torch.zeros(3, dtype=torch.long))


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]), min_size=1, max_size=40), st.integers(1, 100))
@example([i / 100 for i in range(100)], 29)  # 100 * 0.29 is 28.999999999999996
def test_keep_is_the_oracle_with_ties(ratios, percent):
    found = keep(torch.tensor(ratios, dtype=torch.float64), percent / 100)
    assert found.tolist() == oracles.keep(ratios, percent, 100)
    assert found.any()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction="):
        keep(torch.linspace(0, 1, 4), fraction)


def test_the_threshold_itself_can_be_dropped():
    ratios = torch.tensor([0.1, 0.2, 0.2, 0.3])
    assert keep(ratios, 0.5).tolist() == [True, True, True, False]
    assert keep(ratios, 0.5, inclusive_threshold=False).tolist() == [True, False, False, False]
