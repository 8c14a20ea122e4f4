import pytest
import torch
from losses import oracles

from connr.errors import InputError
from connr.networks.heads import simplex
from methods.steps import B, K, batch, built, check_short_run, context

OUT = 3


def test_a_step_is_the_formula():
    method, given = built("mice", out=OUT), batch("student", "teacher", "gate")
    mixture, views = method.mixture, given.views
    f, v = (
        part(views[name]).view(B, K, OUT).tolist()
        for part, name in ((mixture.student, "student"), (mixture.teacher, "teacher"))
    )
    gates = oracles.gate_log_probabilities(mixture.gate(views["gate"]).tolist(), mixture.gate_vectors.tolist(), 1.0)
    experts = oracles.expert_log_probabilities(f, v, mixture.prototypes.tolist(), mixture.queue.tolist(), 1.0)
    q = oracles.mixture_posterior(gates, experts)
    found = method(given, context("mixture")).loss
    assert found.item() == pytest.approx(oracles.mixture_loss(gates, experts, q), rel=1e-6)
    chosen = [oracles.argmax(row) for row in q]
    before, queue = mixture.prototypes.detach().clone(), mixture.queue.clone()
    method.after_step(0.5)
    assert torch.equal(mixture.queue[B:], queue[B:])
    unit = [[oracles.unit(row) for row in image] for image in v]
    assert mixture.queue[:B].tolist() == pytest.approx(torch.tensor(unit), rel=1e-6)
    with torch.no_grad():
        method.before_epoch(context("mixture"))
    for k in range(K):
        own = [unit[i][k] for i in range(B) if chosen[i] == k]
        expected = oracles.unit([sum(column) for column in zip(*own, strict=True)]) if own else before[k].tolist()
        assert mixture.prototypes[k].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("count", "width"), [(1, 1), (2, 1), (3, 2), (10, 9), (10, 128)])
def test_the_gate_vectors_are_as_far_apart_as_they_can_be(count, width):
    vectors = simplex(count, width).double()
    expected = torch.full((count, count), -1 / max(1, count - 1), dtype=torch.float64).fill_diagonal_(1)
    assert torch.allclose(vectors @ vectors.T, expected, atol=1e-6)


def test_too_narrow_an_embedding_is_refused():
    with pytest.raises(InputError, match=r"10 clusters need embeddings of at least 9 numbers, not 8; set method\.out"):
        simplex(10, 8)


def test_its_numbers_are_as_published():
    method = built("mice")
    (phase,) = method.phases()
    assert len(phase.views) == 3
    c = method.config
    assert (c.queue, c.temperature, c.gate_temperature, c.target_momentum) == (16384, 1, 1, 0.999)
    assert not any(p.requires_grad for p in [*method.teacher.parameters(), *method.mixture.teacher.parameters()])


def test_a_short_run(tmp_path):
    check_short_run(tmp_path, "mice", "method.out=16")
