import math

import pytest
import torch
from losses import oracles

from connr.randomness import stream
from methods.steps import B, K, batch, built, check_short_run, context

OUT = 4


def test_a_step_is_the_formula():
    method, given = built("tcc", hidden=5, out=OUT, queue=7, cluster_queue=2, gumbel_temperature=0.8), batch("one", "other")
    method.eval()  # so that BatchNorm can be called again
    networks = (method.online, given.views["one"]), (method.target, given.views["other"])
    r, e, p = [], [], []
    for draw, (part, view) in enumerate(networks):
        pi, v = (each.tolist() for each in part(view))
        uniform = torch.rand(B, K, generator=stream(method.noise.seed, "noise", draw), dtype=torch.float64)
        gumbel = [[-math.log(-math.log(u)) for u in row] for row in uniform.tolist()]
        c = torch.tensor(oracles.relaxed_assignment(pi, gumbel, 0.8), dtype=torch.float64)
        r.append(oracles.cluster_embeddings(pi, v))
        e.append(oracles.in_context(v, part.context(c).tolist()))
        p.append(pi)
    queue = method.cluster_queue.tolist()  # row m is of cluster m modulo K, which is no negative of itself
    clusters = []
    for k in range(K):
        negatives = [row for m, row in enumerate(queue) if m % K != k] + [r[1][at] for at in range(K) if at != k]
        scores = [oracles.dot(r[0][k], other) / 0.5 for other in [r[1][k], *negatives]]
        clusters.append(math.log(sum(math.exp(score) for score in scores)) - scores[0])
    images = [row[0] for row in oracles.info_nce(e[0], [[row] for row in e[1]], method.queue.tolist(), 0.5)]
    expected = oracles.mean(clusters) + oracles.mean(images) + oracles.assignment_divergence(*p)
    assert method(given, context("contrast")).loss.item() == pytest.approx(expected, rel=1e-6)
    method.after_step(0.5)
    assert method.cluster_queue[:K].tolist() == pytest.approx(torch.tensor(r[1]), rel=1e-6)
    assert method.queue[:B].tolist() == pytest.approx(torch.tensor(e[1]), rel=1e-6)


def test_noise_goes_on_where_a_saved_state_was():
    one, other = built("tcc"), built("tcc")
    like = torch.zeros((), dtype=torch.float64)
    first = one.noise.uniform((3,), like)
    other.load_state_dict(one.state_dict())
    second = one.noise.uniform((3,), like)
    assert torch.equal(other.noise.uniform((3,), like), second)
    assert not torch.equal(first, second)


def test_a_short_run(tmp_path):
    check_short_run(tmp_path, "tcc", "method.hidden=16")
