import pytest
import torch
from losses import oracles

from connr import recipe
from connr.clustering.kmeans import Clusters
from connr.randomness import stream
from methods.running import B, K, at, built, drawn, resumes_and_predicts, two_layers

SMALL = {"hidden": 6, "out": 4, "predictor_std": None}


def known_clusters():
    return Clusters(torch.zeros(K, 4, dtype=torch.float64), torch.arange(40) % K, 0.0)


def pair_terms(method, views, noise):
    """-2 cos(q(z + sigma eps), z~') of both directions, and z and z~', by loops."""
    z = [two_layers(method.online[1], view) for view in views]
    target = [two_layers(method.target[1], view) for view in views[::-1]]
    sampled = [oracles.sampled_positive(own, eps, method.config.sigma) for own, eps in zip(z, noise, strict=True)]
    queries = [two_layers(method.predictor, each) for each in sampled]
    losses = [
        oracles.mean(-2 * oracles.cos(q, k) for q, k in zip(*pair, strict=True)) for pair in zip(queries, target, strict=True)
    ]
    return losses, z, target


def test_a_step_adds_noise_and_prototypes_to_byol():
    method, batch = built("propos", sigma=0.3, weight=0.7, temperature=0.4, **SMALL), drawn("one", "other")
    noise = torch.randn((2, B, 4), generator=stream(3, "noise", 17)).double().tolist()
    losses, z, target = pair_terms(method, [view.tolist() for view in batch.views.values()], noise)
    labels = [int(i) % K for i in batch.indices]
    scattering = [oracles.prototype_scattering(*pair, labels, K, 0.4) for pair in zip(z, target, strict=True)]
    found = method.training_step(batch, at("prototypes", seed=3, step=17, clusters=known_clusters()))
    assert float(found.loss.detach()) == pytest.approx(oracles.mean(losses) + 0.7 * oracles.mean(scattering), abs=1e-9)


def test_the_warm_up_is_byol():
    method, batch = built("propos", sigma=0.3, warmup=0.5, **SMALL), drawn("one", "other")
    byol = built("byol", **SMALL)
    byol.load_state_dict(method.state_dict())
    context = at("warmup", epoch=4)
    assert torch.equal(method.training_step(batch, context).loss, byol.training_step(batch, context).loss)


def test_noise_is_of_the_step_and_the_seed():
    method, batch = built("propos", sigma=0.3, weight=0.0, **SMALL), drawn("one", "other")
    losses = [
        float(method.training_step(batch, at("prototypes", seed=seed, step=step, clusters=known_clusters())).loss.detach())
        for seed, step in [(0, 1), (0, 1), (0, 2), (1, 1)]
    ]
    assert losses[0] == losses[1]
    assert len({*losses}) == 3


def test_its_settings_are_those_published():
    method = built("propos")
    warmup, prototypes = method.phases()
    assert (warmup.share, prototypes.share) == (0.05, 0.95)  # 50 of 1,000 epochs
    assert (warmup.needs.clusters, prototypes.needs.clusters) == (False, True)
    assert prototypes.lr_factors == {"encoder": 1, "predictor": 10}
    c = method.config
    assert (c.hidden, c.out, c.target_momentum, c.sigma, c.weight, c.temperature) == (4096, 256, 0.996, 0.001, 0.1, 0.5)


def test_without_clusters_it_says_what_it_needs():
    with pytest.raises(ValueError, match="needs the clusters of k-means"):
        built("propos", **SMALL).training_step(drawn("one", "other"), at("prototypes"))


SETTINGS = ["method.hidden=32", "method.out=16", "method.sigma=0.1", "method.warmup=0.3"]


def test_it_resumes_with_the_same_noise_and_predicts(few_digits, tmp_path):
    fitted = resumes_and_predicts(few_digits, tmp_path, *SETTINGS, name="digits-propos")
    assert [record["stage"] for record in fitted.history] == ["warmup", "prototypes", "prototypes"]
    assert ["batch_term" in record for record in fitted.history] == [False, True, True]


def test_as_the_base_of_connr_its_prototypes_stay_beside_the_neighbours(few_digits, tmp_path):
    base = "method.base={name: propos, hidden: 32, out: 16, predictor_std: null, sigma: 0.1, warmup: 0.3}"
    sizes = [f"method.group.neighbourhood.{key}" for key in ("k=5", "k1=5", "k2=2")]
    settings = (base, "method.start=0.6", *sizes)
    assert recipe.load("digits", settings).method.base.name == "propos"
    fitted = resumes_and_predicts(few_digits, tmp_path, *settings)
    assert [record["stage"] for record in fitted.history] == ["instance", "instance", "group"]
    assert ["batch_term" in record for record in fitted.history] == [False, True, True]
    assert fitted.history[-1]["kept"] < 1
