import pytest
import torch
from losses import oracles
from torch import nn

from connr import networks
from connr.methods.dccm import first_block, pooled
from methods.steps import B, batch, built, check_short_run, context, softmax


def test_a_step_is_the_formula():
    method, given = built("dccm", shallow=2, hidden=5, label_threshold=0.4, pair_threshold=0.8), batch("plain", "random")
    found = method(given, context("cluster")).loss
    p, q = (softmax(method.head(given.views[name])) for name in ("plain", "random"))
    similar = oracles.confident_pairs(p, 0.8)
    plain, d = given.views["plain"].tolist(), method.discriminator
    shallow = [[(row[0] + row[1]) / 2, (row[2] + row[3]) / 2] for row in plain]
    scores = [[0.0] * B for _ in range(B)]
    for i in range(B):
        for j in range(B):
            total = d.score.bias.item()
            for unit in range(5):
                before = oracles.dot(d.deep.weight[unit].tolist(), plain[i]) + d.deep.bias[unit].item()
                total += d.score.weight[0, unit].item() * max(
                    0.0, before + oracles.dot(d.shallow.weight[unit].tolist(), shallow[j])
                )
            scores[i][j] = total
    pairs = oracles.pair_cross_entropy(p, p, similar) + oracles.pair_cross_entropy(q, q, similar)
    labels = oracles.label_cross_entropy(p, p, 0.4) + oracles.label_cross_entropy(q, p, 0.4)
    assert labels > 0
    assert found.item() == pytest.approx(pairs + 5 * labels + 0.05 * oracles.jensen_shannon(scores, similar), rel=1e-9)


def test_its_phase_is_as_published():
    (phase,) = built("dccm").phases()
    assert {name: view.kind for name, view in phase.views.items()} == {"plain": "plain", "random": "random"}


def test_shallow_features_are_those_of_the_first_block():
    encoder = networks.small_resnet(1, 4, 2)
    assert first_block(encoder) is encoder[3]
    assert first_block(networks.resnet("resnet18")).__class__ is nn.Sequential
    assert first_block(nn.Identity()) is None
    maps = torch.arange(12.0).view(1, 3, 2, 2)
    assert pooled(maps, 3).tolist() == [[1.5, 5.5, 9.5]]
    assert pooled(maps[:, :, 0, 0], 4).tolist() == [[0, 4, 8, 0]]


def test_a_short_run(tmp_path):
    check_short_run(tmp_path, "dccm")
