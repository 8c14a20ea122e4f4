import pytest
import torch
from losses import oracles

from methods.steps import B, batch, built, check_short_run, context, softmax


def test_a_step_of_the_second_phase_is_the_formula():
    neighbours = torch.tensor([0, 1, 2, 9, 10, 11])
    method, given = built("nnm", heads=2), batch("anchor", "augmented", "near", neighbours=neighbours)
    before = method.bank.clone()
    found = method(given, context("match")).loss
    rows = given.views["anchor"].tolist()
    closest = [max((j for j in range(B) if j != i), key=lambda j: oracles.cos(rows[i], rows[j])) for i in range(B)]
    each = []
    for number, head in enumerate(method.heads):
        anchor, augmented, near = (softmax(head(given.views[name])) for name in ("anchor", "augmented", "near"))
        stored = before[number, neighbours].tolist()
        terms = [(anchor, near), (augmented, [anchor[j] for j in closest]), (anchor, stored), (augmented, stored)]
        each.append(sum(oracles.neighbour_matching(p, n) for p, n in terms) - 5 * oracles.mean_entropy(anchor))
    assert found.item() == pytest.approx(oracles.mean(each), rel=1e-9)
    assert method.losses.tolist() == pytest.approx([0.05 * loss for loss in each], rel=1e-6)
    method.after_step(0.5)
    assert method.bank[1, 3 : 3 + B].tolist() == pytest.approx(
        torch.tensor(softmax(method.heads[1](given.views["anchor"]))), rel=1e-6
    )
    assert torch.equal(method.bank[:, :3], before[:, :3])


def test_the_pretext_is_simclr():
    method, given = built("nnm"), batch("one", "other")
    z = [method.projector(view).tolist() for view in given.views.values()]
    assert method(given, context("pretext")).loss.item() == pytest.approx(oracles.nt_xent(*z, 0.1), rel=1e-9)


def test_its_phases_are_as_published():
    pretext, match = built("nnm").phases()
    assert pretext.share / match.share == pytest.approx(500 / 100)
    assert (match.batch_size, match.optimizer.name, match.needs.every) == (200, "adam", 0)
    assert (match.views["near"].of, len(built("nnm").heads)) == ("neighbour", 3)


def test_a_short_run(tmp_path):
    run = check_short_run(tmp_path, "nnm", "method.pretext=0.4", "method.batch=50", "method.hidden=16")
    assert [record["stage"] for record in run.history] == ["pretext", "match", "match"]
