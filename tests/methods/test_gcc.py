import pytest
import torch
from losses import oracles

from connr.methods.gcc import degrees
from methods.steps import B, N, batch, built, check_short_run, context, softmax


def graph():
    rows = torch.randn(N, 3)
    return (rows @ rows.T).fill_diagonal_(-torch.inf).topk(5).indices


def edges(neighbours, i):
    table = neighbours.tolist()
    return {j for j in range(N) if j in table[i] or i in table[j]}


def test_degrees_are_counted_in_both_directions():
    neighbours = graph()
    assert degrees(neighbours).tolist() == [len(edges(neighbours, i)) for i in range(N)]


def contrast(anchors, views, method, indices, neighbours):
    """RGC by loops: positives are the other view and the three nearest, from the memory."""
    losses = []
    for place, i in enumerate(indices):
        near = neighbours[i].tolist()[:3]
        other = [views[at] for at, j in enumerate(indices) if j not in near]
        weights = [1.0 if at == place else 0.0 for at, j in enumerate(indices) if j not in near]
        weights += [(len(edges(neighbours, i)) * len(edges(neighbours, j))) ** -0.5 for j in near]
        candidates = other + [method.memory[j].tolist() for j in near]
        losses.append(oracles.graph_contrast([anchors[place]], candidates, [weights], 0.1))
    return oracles.mean(losses)


def test_a_step_of_the_second_phase_is_the_formula():
    method, neighbours = built("gcc", hidden=5, out=3), graph()
    given, where = batch("one", "other", "near", neighbours=neighbours[3 : 3 + B, 0]), context("graph", neighbours=neighbours)
    with torch.no_grad():
        method.before_epoch(where)
    found = method(given, where).loss
    one, other = (method.projector(given.views[name]).tolist() for name in ("one", "other"))
    indices = given.indices.tolist()
    both = contrast(one, other, method, indices, neighbours), contrast(other, one, method, indices, neighbours)
    p, n = (softmax(method.head(given.views[name])) for name in ("one", "near"))
    clusters = oracles.column_cross_entropy(p, n) + 2 * oracles.kl_to_uniform(p)
    assert found.item() == pytest.approx(2 * oracles.mean(both) + clusters, rel=1e-6)
    method.after_step(0.5)
    assert method.memory[3 : 3 + B].tolist() == pytest.approx(torch.tensor(oracles.normalize_rows(one)), rel=1e-6)


def test_without_a_graph_the_other_view_is_the_only_positive():
    method, given = built("gcc", hidden=5, out=3), batch("one", "other")
    one, other = (method.projector(view).tolist() for view in given.views.values())
    same = [[float(i == j) for j in range(B)] for i in range(B)]
    both = oracles.graph_contrast(one, other, same, 0.1), oracles.graph_contrast(other, one, same, 0.1)
    assert method(given, context("contrast")).loss.item() == pytest.approx(2 * oracles.mean(both), rel=1e-6)


def test_its_phases_are_as_published():
    contrast_only, with_graph = built("gcc").phases()
    assert contrast_only.share * 1000 == 50
    assert with_graph.needs.every == 5
    rows = torch.nn.functional.normalize(torch.randn(N, 3))
    assert with_graph.needs.neighbours(rows).shape == (N, 5)


def test_a_short_run(tmp_path):
    run = check_short_run(tmp_path, "gcc", "method.contrast=0.4", "method.hidden=16")
    assert [record["stage"] for record in run.history] == ["contrast", "graph", "graph"]
