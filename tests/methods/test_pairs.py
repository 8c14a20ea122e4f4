"""The step that all methods of pairs share, against the equations as naive loops."""

import oracles
import pytest
import torch
from conftest import tied_features, unit_rows
from hypothesis import given
from hypothesis import strategies as st
from processes import run_in_processes
from small_methods import batch_of, context, linear_byol, sizes, small, views
from torch import nn

from connr.clustering.anchors import all_anchors, off_boundary
from connr.clustering.boundary import boundary_ratio, keep
from connr.clustering.kmeans import Clusters
from connr.distributed import ProcessGroup
from connr.integrations.connr_loss import ConNRLoss
from connr.losses import group_mean, negative_cosine
from connr.methods.pairs import pair_step
from connr.neighbours import contextual, itself, local

BOTH = views()


def embedded(method, pair=BOTH):
    """Queries and keys of both directions, as lists."""
    with torch.no_grad():
        return [[rows.tolist() for rows in direction] for direction in method.embed_both(*pair)]


@given(tied_features(smallest=2, largest=12), st.data())
def test_group_mean_is_the_oracle(keys, data):
    b = len(keys)
    queries = unit_rows(b, 4, data.draw(st.integers(0, 100))) * 3
    k = data.draw(st.integers(1, b))
    kept = data.draw(st.lists(st.booleans(), min_size=b, max_size=b).filter(any))
    neighbours = local(keys, k)
    found = group_mean(negative_cosine(queries, keys[neighbours]), torch.tensor(kept))
    assert float(found) == pytest.approx(oracles.group_loss(queries.tolist(), keys.tolist(), neighbours.tolist(), kept))


def test_the_instance_loss_is_the_group_loss_of_oneself():
    """Eq. 1 is Eq. 8 with `itself` and all anchors."""
    method = linear_byol()
    found = pair_step(method, batch_of(BOTH), context(), itself, all_anchors)
    (q1, z1), (q2, z2) = embedded(method)
    assert found.loss.item() == pytest.approx((oracles.instance_loss(q1, z1) + oracles.instance_loss(q2, z2)) / 2, rel=1e-12)
    assert float(found.metrics["kept"]) == 1
    assert method.training_step(batch_of(BOTH), context()).loss == found.loss  # BYOL by itself


def connr(**changes):
    """ConNR on BYOL of linear heads; its second phase has k = 4, k1 = 4, k2 = 2 and half of the anchors."""
    group = {
        "neighbourhood": {"name": "contextual", "k": 4, "k1": 4, "k2": 2},
        "anchors": {"name": "boundary", "fraction": 0.5, "final": 0.5},
        **changes.pop("group", {}),
    }
    method = small("connr", base={"name": "byol", **sizes("byol")}, group=group, **changes)
    method.base = linear_byol()
    return method


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("over", ["kept", "all"])
def test_a_step_of_the_second_phase_is_the_oracle(scale, over):
    """Eqs. 3-14 from the images to the loss, by the config of ConNR."""
    method, indices = connr(loss_mean=over, group={"loss_scale": scale}), torch.arange(12).flip(0) + 3
    centroids, assignments = unit_rows(3, 5, 4), torch.arange(20) % 3
    known = Clusters(centroids, assignments, 0.0)
    found = method.training_step(batch_of(BOTH, indices), context("group", epoch=3, clusters=known))
    expected = []
    for queries, keys in embedded(method.base):
        scores = oracles.contextual_similarity(keys, 4, 2, 2.0, 2)
        neighbours = [oracles.ranking(scores, i)[:4] for i in range(12)]
        ratios = oracles.boundary_ratio(keys, centroids.tolist(), assignments[indices].tolist())
        expected.append(oracles.group_loss(queries, keys, neighbours, oracles.keep(ratios, 1, 2)))
    share = 0.5 if over == "all" else 1  # dropped anchors count as zeros
    assert found.loss.item() == pytest.approx(sum(expected) / 2 * share * scale, rel=1e-10)
    assert float(found.metrics["kept"]) == 0.5


def test_the_first_phase_of_connr_is_its_base_bit_for_bit():
    method = connr()
    found = method.training_step(batch_of(BOTH), context("instance"))
    assert found.loss == method.base.training_step(batch_of(BOTH), context()).loss


def test_a_base_that_has_no_pairs_is_refused():
    with pytest.raises(ValueError, match="method 'scan' does not serve here; use one of: byol, moco, propos, simsiam"):
        small("connr", base={"name": "scan"})


def own_loss(indices):
    """The loss of this process's rows of 12, and the gradients it leaves."""
    communicator, method = ProcessGroup(), linear_byol()
    own = communicator.share(12)
    batch = batch_of([view[own] for view in BOTH], indices[own])
    found = pair_step(method, batch, context(communicator=communicator), *parts())
    found.loss.backward()
    return found.loss.item(), found.metrics["kept"], [p.grad for p in method.parameters() if p.requires_grad]


def parts():
    """Neighbours and anchors that depend on every row of the batch and on the images' indices."""

    def anchors(keys, indices):
        return keep(boundary_ratio(keys, unit_rows(3, 5, 4), indices % 3), 0.7)

    return (lambda keys: contextual(keys, 3, 4, 2)), anchors


@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_loss_of_the_processes_is_the_loss_of_the_whole_batch(count):
    """Each has its rows only; neighbours and kept anchors are those of all 12 images. 12 rows go into 5 as 2, 2, 3, 2, 3."""
    indices, method = torch.arange(12).flip(0), linear_byol()
    whole = pair_step(method, batch_of(BOTH, indices), context(), *parts())
    whole.loss.backward()
    losses, kept, gradients = zip(*run_in_processes(count, own_loss, indices), strict=True)
    assert sum(losses) / count == pytest.approx(whole.loss.item(), rel=1e-12)
    assert len(set(losses)) == count
    assert all(torch.equal(share, whole.metrics["kept"]) for share in kept)
    for own, *of_processes in zip((p.grad for p in method.parameters() if p.requires_grad), *gradients, strict=True):
        assert torch.allclose(own, torch.stack(of_processes).mean(dim=0), rtol=1e-9, atol=1e-14)


def test_no_gradient_reaches_the_keys():
    method = linear_byol()
    pair_step(method, batch_of(BOTH), context(), itself, all_anchors).loss.backward()
    assert all(p.grad is None for p in method.target.parameters())
    assert all(p.grad is not None for p in (*method.online.parameters(), *method.predictor.parameters()))


def test_gradients():
    queries, keys = unit_rows(8, 4, 0).requires_grad_(), unit_rows(8, 4, 1)
    kept = keep(boundary_ratio(keys, unit_rows(2, 4, 2), torch.zeros(8, dtype=torch.long)), 0.5)
    neighbours = contextual(keys, 3, 3, 2)
    assert torch.autograd.gradcheck(lambda q: group_mean(negative_cosine(q, keys[neighbours]), kept), (queries,))
    free = keys.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, z: negative_cosine(q, z[neighbours]), (queries, free))
    assert torch.autograd.gradcheck(lambda q: ConNRLoss(k=3, k1=3, k2=2)(q, keys), (queries,))


def test_the_loss_module_is_the_loss_of_the_step():
    queries, keys = unit_rows(16, 4, 0), unit_rows(16, 4, 1) * 5
    kept = torch.arange(16) % 2 == 0
    neighbours = contextual(nn.functional.normalize(keys, dim=1), 5, 6, 2)
    expected = oracles.group_loss(queries.tolist(), keys.tolist(), neighbours.tolist(), kept.tolist())
    assert float(ConNRLoss(k=5, k1=6, k2=2)(queries, keys, kept)) == pytest.approx(expected)
    instance = ConNRLoss(k=1, k1=1, k2=1)(queries, keys)
    assert float(instance) == pytest.approx(oracles.instance_loss(queries.tolist(), keys.tolist()))


def test_the_mean_can_be_over_all_anchors():
    """The released program's: dropped anchors count as zeros."""
    some, method = torch.arange(12) % 3 == 0, linear_byol()
    kept, over_all = (
        pair_step(method, batch_of(BOTH), context(), itself, lambda *_: some, mean_over_all=way).loss.item()
        for way in (False, True)
    )
    assert over_all == pytest.approx(kept * 4 / 12)


def test_the_boundary_filter_keeps_its_fraction_and_all_where_there_is_one_cluster():
    keys, indices = unit_rows(10, 4, 0), torch.arange(10)
    section = small("connr", base={"name": "byol", **sizes("byol")}).config.group.anchors
    one = Clusters(unit_rows(1, 4, 1), torch.zeros(10, dtype=torch.long), 0.0)
    assert section.build(one, 2, 2, 4)(keys, indices).all()
    two = Clusters(unit_rows(2, 4, 1), torch.arange(10) % 2, 0.0)
    for epoch, fraction in ((2, 0.8), (3, 0.9)):
        found = section.build(two, epoch, 2, 4)(keys, indices)
        expected = off_boundary(keys, indices, centroids=two.centroids, assignments=two.assignments, fraction=fraction)
        assert torch.equal(found, expected)
        assert int(found.sum()) == round(10 * fraction)
    with pytest.raises(ValueError, match=r"Needs\(clusters=True\)"):
        section.build(None, 2, 2, 4)
