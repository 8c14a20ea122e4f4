import pytest
import torch
from losses import oracles

from connr.methods import Optimizer, View
from methods.running import at, built, drawn, linear, resumes_and_predicts, softmax


def test_a_step_is_the_mean_over_heads():
    method, batch = built("pica", sobel=False, heads=2, weight=1.5), drawn("one", "other")
    views = [view.tolist() for view in batch.views.values()]
    expected = []
    for head in method.heads:
        p, q = (softmax(linear(head, view)) for view in views)
        expected.append(oracles.column_cross_entropy(p, q) + 1.5 * oracles.kl_to_uniform(p))
    found = method.training_step(batch, at("cluster"))
    assert float(found.loss.detach()) == pytest.approx(sum(expected) / 2, abs=1e-10)
    assert float(found.metrics["best_head"]) == pytest.approx(min(expected), abs=1e-10)
    best = method.heads[expected.index(min(expected))]
    assert torch.equal(method.assigner().head.weight, best.weight)


def test_its_settings_are_those_published():
    method = built("pica")
    (phase,) = method.phases()
    assert phase.optimizer == Optimizer("adam", 1e-4, weight_decay=0, schedule="constant")
    assert phase.views == {"one": View("weak"), "other": View("random")}
    assert method.config.weight == 2
    assert method.input_channels(method.config, 3) == 2  # Sobel


def test_it_resumes_and_predicts(few_digits, tmp_path):
    fitted = resumes_and_predicts(few_digits, tmp_path, "method={name: pica, lr: 0.001}")
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
