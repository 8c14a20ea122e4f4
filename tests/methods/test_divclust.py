import itertools

import numpy as np
import pytest
import torch
from losses import oracles

from connr import metrics
from connr.clustering.consensus import Consensus, matched, pairwise_nmi, shared_images
from connr.methods import Optimizer
from methods.running import K, at, built, drawn, linear, resumes_and_predicts, softmax, two_layers
from methods.test_cc import cc_loss


def diversity(assignments, threshold):
    return oracles.mean(oracles.diversity_penalty(each, threshold) for each in assignments)


def test_a_step_on_cc_is_its_loss_over_the_heads_and_their_diversity():
    method, batch = built("divclust", heads=3, out=4, threshold=0.4), drawn("one", "other")
    views = [view.tolist() for view in batch.views.values()]
    z, z_other = (two_layers(method.projector, view) for view in views)
    p, q = ([softmax(two_layers(head, view)) for head in method.heads] for view in views)
    base = oracles.mean(cc_loss(z, z_other, *pair, 0.5, 1.0) for pair in zip(p, q, strict=True))
    found = method.training_step(batch, at("cluster"))
    assert diversity((p, q), 0.4) > 0.1
    assert float(found.loss.detach()) == pytest.approx(base + diversity((p, q), float(torch.tensor(0.4))), abs=1e-9)


def test_a_step_on_pica_is_its_loss_over_the_heads_and_their_diversity():
    method, batch = built("divclust", base="pica", sobel=False, heads=3, threshold=0.5), drawn("one", "other")
    p, q = ([softmax(linear(head, view.tolist())) for head in method.heads] for view in batch.views.values())
    base = oracles.mean(
        oracles.column_cross_entropy(*pair) + 2 * oracles.kl_to_uniform(pair[0]) for pair in zip(p, q, strict=True)
    )
    found = method.training_step(batch, at("cluster"))
    assert float(found.loss.detach()) == pytest.approx(base + diversity((p, q), 0.5), abs=1e-10)


@pytest.mark.parametrize(("wanted", "becomes"), [(0.0, 0.5 * 0.99), (1.0, 0.5 * 1.01)])
def test_the_threshold_follows_the_agreement_every_20_steps(wanted, becomes):
    method = built("divclust", heads=2, threshold=0.5, nmi=wanted)
    for step in range(20):
        assert float(method.threshold) == 0.5
        method.training_step(drawn("one", "other", seed=step), at("cluster", step=step))
    assert float(method.threshold) == pytest.approx(becomes)


def test_the_agreement_is_of_the_latest_images():
    method = built("divclust", heads=2, memory=30)
    for step in range(4):  # 48 images
        method.training_step(drawn("one", "other", seed=step), at("cluster", step=step))
    latest = [drawn("one", "other", seed=step).views["one"] for step in (3, 2, 1)]
    expected = torch.stack([head(torch.cat(latest)).argmax(dim=1) for head in method.heads], dim=1)[:30]
    assert torch.equal(method.recent.long(), expected)


def test_its_settings_are_those_published():
    for base, lr in (("cc", 3e-4), ("pica", 1e-4)):
        method = built("divclust", base=base)
        (phase,) = method.phases()
        assert phase.optimizer == Optimizer("adam", lr, weight_decay=0, schedule="constant")
    assert (method.config.every, method.config.rate, len(method.heads)) == (20, 0.01, 20)


def clusterings(seed=0, b=300, m=4, k=K, noise=0.2):
    """Random labels as m clusterings with errors, whose clusters are numbered otherwise in each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, b)
    orders = [rng.permutation(k) for _ in range(m)]
    noisy = [np.where(rng.random(b) < noise, rng.integers(0, k, b), labels) for _ in range(m)]
    return torch.from_numpy(labels), torch.from_numpy(
        np.stack([order[each] for order, each in zip(orders, noisy, strict=True)], 1)
    )


def test_the_nmi_of_each_two_clusterings_is_that_of_the_metrics():
    _, labels = clusterings()
    found = pairwise_nmi(shared_images(labels, labels, K))
    for a, b in itertools.product(range(4), repeat=2):
        assert float(found[a, b]) == pytest.approx(metrics.nmi(labels[:, a], labels[:, b]), abs=1e-10)
    alone = torch.zeros(5, 2, dtype=torch.int64)
    assert pairwise_nmi(shared_images(alone, alone, K)).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_consensus_is_better_than_its_clusterings(seed):
    labels, noisy = clusterings(seed, m=9)
    p = torch.nn.functional.one_hot(noisy.T, K).double()
    order = matched(p)
    assert all(sorted(row) == list(range(K)) for row in order.tolist())
    voted = torch.stack([each[:, own] for each, own in zip(p, order, strict=True)]).mean(dim=0).argmax(dim=1)
    assert metrics.accuracy(labels, voted) > max(metrics.accuracy(labels, one) for one in noisy.T)
    assert metrics.accuracy(labels, voted) > 0.98


def test_its_clusters_can_be_renumbered():
    method, rows = built("divclust", heads=3), drawn("one", b=50).views["one"]
    assigner = Consensus(method.heads, K, torch.tensor([[0, 1, 2], [2, 0, 1], [1, 0, 2]]))
    order = torch.tensor([2, 0, 1])
    before, after = assigner.assign(rows), assigner.reordered(order).assign(rows)
    assert torch.equal(order[after.clusters], before.clusters)
    assert torch.equal(after.distances, before.distances)


@pytest.mark.parametrize("base", ["cc", "pica"])
def test_it_resumes_and_predicts(few_digits, tmp_path, base):
    settings = [f"method={{name: divclust, base: {base}, heads: 4, every: 4, nmi: 0.0, lr: 0.001}}"]
    fitted = resumes_and_predicts(few_digits, tmp_path, *settings)
    assert fitted.history[-1]["threshold"] < 1
    assert fitted.history[-1]["cluster_sizes"] == sorted(fitted.history[-1]["cluster_sizes"], reverse=True)


def test_the_consensus_is_exported_to_onnx(few_digits, tmp_path):
    pytest.importorskip("onnxruntime")
    from connr import recipe, runs
    from connr.export.onnx import TOLERANCE, save_onnx

    settings = ["method={name: divclust, heads: 3}", "train.epochs=1", "backbone.width=8"]
    r = recipe.load("digits", settings)
    fitted = runs.fit(r, few_digits)
    assert save_onnx(r, fitted.model, "digits", tmp_path / "model.onnx") <= TOLERANCE
