"""Features to clusters: by centroids, and by a head."""

import math

import pytest
import torch
from conftest import tied_features, unit_rows
from hypothesis import given
from hypothesis import strategies as st
from oracles import squared
from torch import nn

from connr.clustering.assigners import Centroids, Head, class_means
from connr.clustering.kmeans import Clusters
from connr.distributed import SINGLE_PROCESS
from connr.engine.whole_set import renumbered


def by_hand(features, centroids):
    """Cluster, distance, ratio d_1 / d_2 as Eq. 11 has it for the nearest, and the runner-up."""
    found = []
    for row in features.tolist():
        norm = math.sqrt(sum(x * x for x in row))
        distances = [math.sqrt(squared([x / norm for x in row], c)) for c in centroids.tolist()]
        order = sorted(range(len(distances)), key=lambda j: (distances[j], j))
        first, second = (order * 2)[:2]
        larger = distances[second]
        ratio = 0.0 if len(order) == 1 else 1.0 if larger == 0 else distances[first] / larger
        found.append((first, distances[first], ratio, second))
    return [list(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("k", [1, 2, 7])
def test_centroids_are_the_oracle(k):
    features, centroids = unit_rows(40, 5, 0) * 3, unit_rows(k, 5, 1) * 0.8
    found = Centroids(centroids).assign(features)
    clusters, distances, ratios, runners_up = by_hand(features, centroids)
    assert found.clusters.tolist() == clusters
    assert found.distances.tolist() == pytest.approx(distances, rel=1e-9)
    assert found.ratios.tolist() == pytest.approx(ratios, abs=1e-9)
    assert found.runners_up.tolist() == runners_up
    assert found.confidences.tolist() == pytest.approx([1 - ratio for ratio in ratios], abs=1e-9)
    exported, far = Centroids(centroids)(features)
    assert exported.tolist() == clusters
    assert far.tolist() == pytest.approx(distances, rel=1e-9)


@given(tied_features(), tied_features(smallest=2, largest=6))
def test_between_equal_centroids_the_first_is_taken(features, centroids):
    found = Centroids(centroids).assign(features)
    clusters, _, ratios, runners_up = by_hand(features, centroids)
    assert found.clusters.tolist() == clusters
    assert found.runners_up.tolist() == runners_up
    assert found.ratios.tolist() == pytest.approx(ratios, abs=1e-9)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("k", [1, 2, 7])
def test_a_head_is_the_oracle(k, probabilities):
    torch.manual_seed(0)
    layer = nn.Linear(5, k)
    head = Head(nn.Sequential(layer, nn.Softmax(dim=1)) if probabilities else layer, k, probabilities)
    features = unit_rows(40, 5, 0).float() * 4
    found = head.assign(features)
    exported, far = (each.detach() for each in head(features))
    for i, logits in enumerate(layer(features).tolist()):
        powers = [math.exp(x) for x in logits]
        p = [x / sum(powers) for x in powers]
        order = sorted(range(k), key=lambda j: -p[j])
        first, second = (order * 2)[:2]
        assert (int(found.clusters[i]), int(found.runners_up[i]), int(exported[i])) == (first, second, first)
        assert float(found.distances[i]) == pytest.approx(1 - p[first], abs=1e-6)
        assert float(far[i]) == pytest.approx(1 - p[first], abs=1e-6)
        assert float(found.ratios[i]) == pytest.approx(0 if k == 1 else p[second] / p[first], abs=1e-6)
    assert not found.distances.requires_grad
    assert head.n_clusters == k


def test_a_fitted_head_has_the_class_means_as_centroids():
    torch.manual_seed(0)
    head, features = Head(nn.Linear(5, 4).double(), 4), unit_rows(30, 5, 0) * 2
    fitted, clusters = head.fit(features, lambda *_: pytest.fail("a head needs no k-means"), SINGLE_PROCESS)
    assert fitted is head
    unit = features / 2
    for k in range(4):
        members = [row for row, own in zip(unit.tolist(), clusters.assignments.tolist(), strict=True) if own == k]
        expected = [sum(column) / len(members) for column in zip(*members, strict=True)] if members else [0.0] * 5
        assert clusters.centroids[k].tolist() == pytest.approx(expected, abs=1e-12)
    found = head.assign(features)
    assert clusters.inertia == pytest.approx(float(found.distances.double().square().sum()))
    assert torch.equal(clusters.assignments, found.clusters)
    empty = class_means(unit, torch.zeros(30, dtype=torch.long), 3, SINGLE_PROCESS)
    assert empty[1:].tolist() == [[0.0] * 5] * 2


@pytest.mark.parametrize(
    "tensors",
    [
        {"head.weight": torch.zeros(3, 5)},
        {"head.weight": torch.zeros(3, 6), "head.bias": torch.zeros(3)},
        {"head.weight": torch.zeros(4, 5), "head.bias": torch.zeros(4)},
        {"head.weight": torch.zeros(3, 5), "head.bias": torch.zeros(3), "more": torch.zeros(1)},
        {"centroids": torch.zeros(3, 5)},
    ],
)
def test_a_head_refuses_other_tensors_than_its_own(tensors):
    with pytest.raises(ValueError, match="its assigner has tensors"):
        Head(nn.Linear(5, 3), 3).restore(tensors)


@pytest.mark.parametrize(
    "tensors", [{}, {"centroids": torch.zeros(3)}, {"centroids": torch.zeros(3, 5), "head.weight": torch.zeros(1)}]
)
def test_centroids_refuse_other_tensors_than_their_own(tensors):
    with pytest.raises(ValueError, match="its centroids are missing, or not rows"):
        Centroids().restore(tensors)


def test_a_restored_assigner_is_the_one_that_was_saved():
    torch.manual_seed(0)
    for fitted, empty in ((Centroids(unit_rows(4, 5, 0)), Centroids()), (Head(nn.Linear(5, 4), 4), Head(nn.Linear(5, 4), 4))):
        features = unit_rows(20, 5, 1).to(next(iter(fitted.state_dict().values())).dtype)
        empty.restore(fitted.state_dict())
        assert empty.n_clusters == 4
        for one, other in zip(fitted.assign(features), empty.assign(features), strict=True):
            assert torch.equal(one, other)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_clusters_are_numbered_by_size_and_then_by_first_image(members):
    centroids = unit_rows(5, 3, 0)
    found, order = renumbered(Clusters(centroids, torch.tensor(members), 1.0))
    expected = sorted(range(5), key=lambda k: (-members.count(k), members.index(k) if k in members else k))
    assert order.tolist()[: len(set(members))] == expected[: len(set(members))]
    assert found.assignments.tolist() == [order.tolist().index(k) for k in members]
    assert torch.equal(found.centroids, centroids[order])
    assert torch.equal(Centroids(centroids).reordered(order).centroids, found.centroids)
    again, same = renumbered(found)
    assert torch.equal(again.assignments, found.assignments)
    assert torch.equal(same[: len(set(members))], torch.arange(len(set(members))))
