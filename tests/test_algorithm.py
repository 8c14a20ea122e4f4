import oracles
import pytest
import torch
from conftest import tied_features, unit_rows
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from connr import algorithm
from connr.algorithm import ConNRLoss, Sockets, all_anchors, group_loss, off_boundary, step
from connr.clustering.boundary import boundary_ratio, keep
from connr.frameworks import BYOL
from connr.frameworks.byol import negative_cosine
from connr.neighbours import contextual, itself, local


@pytest.fixture
def framework():
    """BYOL on images of 2 x 2 pixels, in float64."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh())
    return BYOL(encoder, nn.Linear(6, 5), nn.Linear(5, 5)).double()


@pytest.fixture
def views():
    torch.manual_seed(1)
    return torch.randn(12, 1, 2, 2).double(), torch.randn(12, 1, 2, 2).double()


def embedded(framework, views):
    """Queries and keys of both directions, as lists."""
    with torch.no_grad():
        return [[t.tolist() for t in framework.embed(*pair)] for pair in (views, views[::-1])]


@given(tied_features(smallest=2, largest=12), st.data())
def test_group_loss_is_the_oracle(keys, data):
    b = len(keys)
    queries = unit_rows(b, 4, data.draw(st.integers(0, 100))) * 3
    k = data.draw(st.integers(1, b))
    kept = data.draw(st.lists(st.booleans(), min_size=b, max_size=b).filter(any))
    neighbours = local(keys, k)
    found = group_loss(negative_cosine(queries, keys[neighbours]), torch.tensor(kept))
    assert float(found) == pytest.approx(oracles.group_loss(queries.tolist(), keys.tolist(), neighbours.tolist(), kept))


def test_instance_loss_is_the_group_loss_of_oneself(framework, views):
    """Eq. 1 is Eq. 8 with `itself` and `everyone`."""
    found = step(framework, views, torch.arange(12), Sockets(itself, all_anchors))
    (q1, z1), (q2, z2) = embedded(framework, views)
    assert found.loss.item() == pytest.approx((oracles.instance_loss(q1, z1) + oracles.instance_loss(q2, z2)) / 2, rel=1e-12)
    assert float(found.kept) == 1


def test_a_step_of_stage_2_is_the_oracle(framework, views):
    """Eqs. 3-14 from the images to the loss."""
    indices = torch.arange(12).flip(0) + 3
    centroids, assignments = unit_rows(3, 5, 4), torch.arange(20) % 3
    sockets = Sockets(
        lambda keys: contextual(keys, 4, 4, 2),
        lambda keys, ids: off_boundary(keys, ids, centroids=centroids, assignments=assignments, fraction=0.5),
    )
    found = step(framework, views, indices, sockets)
    expected = []
    for queries, keys in embedded(framework, views):
        scores = oracles.contextual_similarity(keys, 4, 2, 2.0, 2)
        neighbours = [oracles.ranking(scores, i)[:4] for i in range(12)]
        ratios = oracles.boundary_ratio(keys, centroids.tolist(), assignments[indices].tolist())
        expected.append(oracles.group_loss(queries, keys, neighbours, oracles.keep(ratios, 1, 2)))
    assert found.loss.item() == pytest.approx(sum(expected) / 2, rel=1e-10)
    assert float(found.kept) == 0.5


def test_the_losses_of_two_ranks_sum_to_the_loss_of_the_whole_batch(framework, views):
    """Each part asks for the other's rows; neighbours and kept anchors are those of all 12 images."""

    def anchors(keys, indices):
        return keep(boundary_ratio(keys, unit_rows(3, 5, 4), indices % 3), 0.7)

    sockets = Sockets(lambda keys: contextual(keys, 3, 4, 2), anchors)
    with torch.no_grad():
        queries, keys = framework.embed(*views)
    whole = algorithm.concordance(framework, queries, keys, torch.arange(12), sockets)
    halves = []
    for rows in (slice(0, 5), slice(5, 12)):

        def gather(mine):
            return keys if mine.is_floating_point() else torch.arange(12)

        found = algorithm.concordance(
            framework, queries[rows], keys[rows], torch.arange(12)[rows], sockets, gather, rows.start
        )
        assert torch.equal(found.kept, whole.kept)
        halves.append(found.loss.item())
    assert sum(halves) == pytest.approx(whole.loss.item(), rel=1e-12)
    assert halves[0] != halves[1]


def test_no_gradient_reaches_the_keys(framework, views):
    step(framework, views, torch.arange(12), Sockets(itself, all_anchors)).loss.backward()
    assert all(p.grad is None for p in framework.target.parameters())
    assert all(p.grad is not None for p in (*framework.online.parameters(), *framework.predictor.parameters()))


def test_gradients():
    queries, keys = unit_rows(8, 4, 0).requires_grad_(), unit_rows(8, 4, 1)
    kept = keep(boundary_ratio(keys, unit_rows(2, 4, 2), torch.zeros(8, dtype=torch.long)), 0.5)
    neighbours = contextual(keys, 3, 3, 2)
    assert torch.autograd.gradcheck(lambda q: group_loss(negative_cosine(q, keys[neighbours]), kept), (queries,))
    free = keys.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, z: negative_cosine(q, z[neighbours]), (queries, free))
    assert torch.autograd.gradcheck(lambda q: ConNRLoss(3, 3, 2)(q, keys), (queries,))


def test_loss_module_is_the_loss_of_the_algorithm():
    queries, keys = unit_rows(16, 4, 0), unit_rows(16, 4, 1) * 5
    kept = torch.arange(16) % 2 == 0
    neighbours = contextual(torch.nn.functional.normalize(keys, dim=1), 5, 6, 2)
    expected = oracles.group_loss(queries.tolist(), keys.tolist(), neighbours.tolist(), kept.tolist())
    assert float(ConNRLoss(5, 6, 2)(queries, keys, kept)) == pytest.approx(expected)
    instance = ConNRLoss(1, 1, 1)(queries, keys)
    assert float(instance) == pytest.approx(oracles.instance_loss(queries.tolist(), keys.tolist()))


def test_the_mean_can_be_over_all_anchors(framework, views):
    """The released program's: dropped anchors count as zeros."""
    some = torch.arange(12) % 3 == 0
    embedded = framework.embed(*views)
    kept, over_all = (
        algorithm.concordance(
            framework, *embedded, torch.arange(12), Sockets(itself, lambda *_: some, mean_over_all)
        ).loss.item()
        for mean_over_all in (False, True)
    )
    assert over_all == pytest.approx(kept * 4 / 12)
