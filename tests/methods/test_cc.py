import pytest
from losses import oracles

from connr.methods import Optimizer
from methods.running import at, built, drawn, resumes_and_predicts, softmax, two_layers


def cc_loss(z, z_other, p, p_other, temperature, cluster_temperature):
    columns = oracles.column_nt_xent(p, p_other, cluster_temperature)
    uniform = oracles.kl_to_uniform(p) + oracles.kl_to_uniform(p_other)
    return oracles.nt_xent(z, z_other, temperature) + columns + uniform


def test_a_step_contrasts_rows_and_columns():
    method, batch = built("cc", out=4, temperature=0.4, cluster_temperature=0.8), drawn("one", "other")
    views = [view.tolist() for view in batch.views.values()]
    z, z_other = (two_layers(method.projector, view) for view in views)
    p, p_other = (softmax(two_layers(method.head, view)) for view in views)
    found = method.training_step(batch, at("contrast"))
    assert float(found.loss.detach()) == pytest.approx(cc_loss(z, z_other, p, p_other, 0.4, 0.8), abs=1e-10)
    assert float(found.metrics["instance_loss"]) == pytest.approx(oracles.nt_xent(z, z_other, 0.4), abs=1e-10)


def test_its_settings_are_those_published():
    method = built("cc")
    (phase,) = method.phases()
    assert phase.optimizer == Optimizer("adam", 3e-4, weight_decay=0, schedule="constant")
    assert (method.config.temperature, method.config.cluster_temperature, method.config.out) == (0.5, 1, 128)
    assert [view.kind for view in phase.views.values()] == ["random", "random"]


def test_it_resumes_and_predicts(few_digits, tmp_path):
    fitted = resumes_and_predicts(few_digits, tmp_path, "method=cc")
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
