import pytest
import torch
from losses import oracles

from connr.methods import Optimizer, View
from methods.running import at, built, drawn, resumes_and_predicts, softmax, two_layers


@pytest.fixture
def step():
    """A method whose head is sure of some images, a batch, and what the heads make of both views, by loops."""
    method, batch = built("tcl", out=4, temperature=0.4, cluster_temperature=0.8, threshold=0.8), drawn("weak", "strong")
    with torch.no_grad():
        method.head[-1].weight.mul_(8)
    views = [view.tolist() for view in batch.views.values()]
    return method, batch, [two_layers(method.projector, v) for v in views], [two_layers(method.head, v) for v in views]


def test_a_step_of_the_first_phase_is_that_of_cc(step):
    method, batch, (z, z_strong), outputs = step
    p, q = (softmax(each) for each in outputs)
    expected = oracles.nt_xent(z, z_strong, 0.4) + oracles.column_nt_xent(p, q, 0.8)
    expected += oracles.kl_to_uniform(p) + oracles.kl_to_uniform(q)
    assert float(method.training_step(batch, at("twin")).loss.detach()) == pytest.approx(expected, abs=1e-10)


def test_a_step_of_boosting_learns_from_confident_weak_views(step):
    method, batch, (z, z_strong), (weak, strong) = step
    p = softmax(weak)
    kept = oracles.top_per_cluster(p, 1, 2, 0.8)
    assert 2 <= sum(kept) < len(kept)  # some are confident, and not all of those are chosen
    labels = [oracles.argmax(row) if keep else -1 for row, keep in zip(p, kept, strict=True)]
    alike = oracles.same_label(labels)
    assert any(alike[i][j] for i in range(len(labels)) for j in range(i))
    expected = oracles.nt_xent(z, z_strong, 0.4, alike) + oracles.balanced_cross_entropy(strong, labels, kept)
    found = method.training_step(batch, at("boost"))
    assert float(found.loss.detach()) == pytest.approx(expected, abs=1e-10)
    assert float(found.metrics["confident"]) == pytest.approx(sum(kept) / len(kept))


def test_its_settings_are_those_published():
    method = built("tcl")
    phases = method.phases()
    assert [phase.name for phase in phases] == ["twin", "boost"]
    assert phases[0].share / phases[1].share == pytest.approx(1000 / 200)
    assert all(phase.optimizer == Optimizer("adam", 1e-4, weight_decay=0, schedule="constant") for phase in phases)
    assert all(phase.views == {"weak": View("weak"), "strong": View("strong")} for phase in phases)
    assert (method.config.ratio, method.config.threshold) == (0.5, 0.99)


def test_it_resumes_in_the_second_phase_and_predicts(few_digits, tmp_path):
    fitted = resumes_and_predicts(few_digits, tmp_path, "method={name: tcl, twin: 0.3, threshold: 0.1}")
    assert [record["stage"] for record in fitted.history] == ["twin", "boost", "boost"]
    assert fitted.history[-1]["confident"] > 0
