import pytest
import torch
from losses import oracles

from methods.running import at, built, drawn, resumes_and_predicts, two_layers


def test_a_step_is_nt_xent_of_the_projections():
    method, batch = built("simclr", hidden=4, out=3, temperature=0.3), drawn("one", "other")
    z, z_other = (two_layers(method.projector, view.tolist()) for view in batch.views.values())
    found = method.training_step(batch, at("contrast")).loss
    assert float(found.detach()) == pytest.approx(oracles.nt_xent(z, z_other, 0.3), abs=1e-10)


def test_the_projector_serves_the_loss_alone():
    method = built("simclr")
    assert method.features() is method.encoder
    (phase,) = method.phases()
    assert (phase.optimizer, [view.kind for view in phase.views.values()]) == (None, ["random", "random"])
    assert set(map(id, method.parameter_groups()["encoder"])) == set(map(id, method.parameters()))


def test_it_resumes_and_predicts(few_digits, tmp_path):
    fitted = resumes_and_predicts(few_digits, tmp_path, "method=simclr")
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    assert torch.equal(fitted.assigned.clusters.unique(), torch.arange(10))
