"""IIC, SCAN and IDFD, one step each, against their papers as naive loops in double precision."""

from math import exp, log, sqrt

import pytest
import torch
from conftest import unit_rows
from small_methods import batch_of, context, small, views
from torch.nn import functional as F

from connr.engine import Timeline, optimizers
from connr.methods import Batch
from connr.methods.scan import others

BOTH = views()


def softmax(logits):
    rows = []
    for row in logits:
        powers = [exp(x) for x in row]
        rows.append([p / sum(powers) for p in powers])
    return rows


def unit(row):
    return [x / sqrt(sum(y * y for y in row)) for x in row]


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def mutual_information(p, q, weight=1.0):
    """IIC's loss of two lists of assignments, entry by entry."""
    b, k = len(p), len(p[0])
    joint = [[sum(p[n][i] * q[n][j] + p[n][j] * q[n][i] for n in range(b)) / (2 * b) for j in range(k)] for i in range(k)]
    side = [sum(row) for row in joint]
    terms = (
        joint[i][j] * (log(joint[i][j]) - weight * log(side[i]) - weight * log(side[j])) for i in range(k) for j in range(k)
    )
    return -sum(terms)


@pytest.mark.parametrize(("epoch", "over"), [(0, True), (1, False), (2, False), (3, True), (4, False)])
def test_iic_trains_its_over_clustering_heads_in_one_epoch_of_three(epoch, over):
    method = small("iic", heads=3, weight=1.5)
    found = method.training_step(batch_of(BOTH), context("cluster", epoch=epoch + 5, phase_epoch=epoch))
    expected = []
    for head in method.over_heads if over else method.heads:
        with torch.no_grad():
            p, q = (softmax(head(method.encoder(view)).tolist()) for view in BOTH)
        assert len(p[0]) == (7 if over else 3)
        expected.append(mutual_information(p, q, 1.5))
    assert found.loss.item() == pytest.approx(sum(expected) / 3, rel=1e-10)
    assert float(found.metrics["over_clustering"]) == over
    found.loss.backward()
    trained, idle = (method.over_heads, method.heads) if over else (method.heads, method.over_heads)
    assert all(p.grad.abs().sum() > 0 for p in trained.parameters())
    assert all(p.grad is None for p in idle.parameters())
    assert all(p.grad.abs().sum() > 0 for p in method.encoder.parameters())


def test_iics_head_of_least_loss_assigns():
    method, means = small("iic", heads=3), [0.0, 0.0, 0.0]
    for epoch in range(3):
        for seed in range(4):
            method.training_step(batch_of(views(seed)), context("cluster", phase_epoch=epoch))
            if epoch > 0:
                with torch.no_grad():
                    pairs = [[softmax(head(method.encoder(view)).tolist()) for view in views(seed)] for head in method.heads]
                means = [0.95 * mean + 0.05 * mutual_information(*pair) for mean, pair in zip(means, pairs, strict=True)]
    assert method.losses.tolist() == pytest.approx(means, rel=1e-9)
    best = min(range(3), key=lambda at: means[at])
    with torch.no_grad():
        features = method.features()(BOTH[0])
        expected = [row.index(max(row)) for row in method.heads[best](features).tolist()]
    assert method.assigner().eval().assign(features).clusters.tolist() == expected
    method.losses.copy_(torch.tensor([0.0, 0.0, -1.0]))
    assert method.assigner().head is method.heads[2]


def test_iic_sees_sobel_gradients_and_no_colour():
    from connr.methods.iic import Sobel

    images = torch.rand(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, grey = Sobel()(images), images.mean(dim=1).tolist()
    for n in range(2):
        for y in range(5):
            for x in range(6):

                def at(down, right, n=n, y=y, x=x):
                    return grey[n][min(max(y + down, 0), 4)][min(max(x + right, 0), 5)]

                across = sum(w * (at(d, 1) - at(d, -1)) for d, w in ((-1, 1), (0, 2), (1, 1))) / 8
                down = sum(w * (at(1, d) - at(-1, d)) for d, w in ((-1, 1), (0, 2), (1, 1))) / 8
                assert found[n, :, y, x].tolist() == pytest.approx([across, down], abs=1e-7)


def test_scans_phases_are_those_of_the_paper():
    method = small("scan", pretext=0.5, cluster=0.25, cluster_batch=5, self_label_batch=8, cluster_lr=0.01, self_label_lr=0.02)
    pretext, cluster, self_label = method.phases()
    assert [phase.share for phase in method.phases()] == [0.5, 0.25, 0.25]
    assert pretext.optimizer is None
    assert [(each.optimizer.name, each.optimizer.lr, each.optimizer.weight_decay) for each in (cluster, self_label)] == [
        ("adam", 0.01, 1e-4),
        ("adam", 0.02, 1e-4),
    ]
    assert [each.batch_size for each in Timeline(method.phases(), 8, 20, 10).segments] == [10, 5, 8]
    assert {name: (view.kind, view.of) for name, view in cluster.views.items()} == {
        "one": ("weak", "image"),
        "other": ("weak", "neighbour"),
    }
    assert {name: view.kind for name, view in self_label.views.items()} == {"weak": "weak", "strong": "strong"}
    assert cluster.needs.every == 0  # once, at the start of the phase
    assert (pretext.needs.neighbours, self_label.needs.neighbours) == (None, None)


def test_scans_neighbours_are_the_nearest_others_of_the_whole_set():
    rows = unit_rows(30, 5, 0)
    rows[7] = rows[3]  # a copy is a neighbour; the image itself is none
    found = small("scan", n_images=30, neighbours=6).phases()[1].needs.neighbours(rows)
    for i, row in enumerate(rows.tolist()):
        rest = sorted((j for j in range(30) if j != i), key=lambda j: (-round(dot(row, rows[j].tolist()), 12), j))
        assert found[i].tolist() == rest[:6]
    assert small("scan", n_images=4, neighbours=20).phases()[1].needs.neighbours(rows[:4]).shape == (4, 3)
    assert torch.equal(others(rows, 6), found)


def trained_in(method, phase):
    """The roles that a step of a phase moves, by the optimiser that the engine makes for it."""
    timeline = Timeline(method.phases(), 6, 20, 10)
    segment = next(each for each in timeline.segments if each.phase.name == phase)
    optimizer = optimizers.optimizer_for(method, segment.phase.optimizer or optimizers.Optimizer("sgd", 0.1))
    optimizers.freeze(optimizer, segment)
    optimizers.set_learning_rate(optimizer, segment, 0.1)
    before = {role: [p.clone() for p in group] for role, group in method.parameter_groups().items()}
    names = tuple(segment.phase.views)
    method.training_step(Batch(dict(zip(names, BOTH, strict=True)), torch.arange(12)), context(phase)).loss.backward()
    optimizer.step()
    after = method.parameter_groups()
    moved = {role for role in before if any(not torch.equal(a, b) for a, b in zip(before[role], after[role], strict=True))}
    return moved, type(optimizer)


@pytest.mark.parametrize(
    ("phase", "roles", "kind"),
    [
        ("pretext", {"encoder", "projector"}, torch.optim.SGD),
        ("cluster", {"encoder", "head"}, torch.optim.Adam),
        ("self_label", {"encoder", "head"}, torch.optim.Adam),
    ],
)
def test_scan_freezes_what_a_phase_does_not_train(phase, roles, kind):
    method = small("scan", threshold=0.34, pretext=1 / 3, cluster=1 / 3)
    assert trained_in(method, phase) == (roles, kind)


def test_scans_pretext_is_nt_xent():
    method = small("scan", temperature=0.3)
    with torch.no_grad():
        z = [unit(row) for view in BOTH for row in method.projector(method.encoder(view)).tolist()]
    terms = []
    for i in range(24):
        partner = (i + 12) % 24
        powers = [exp(dot(z[i], z[j]) / 0.3) for j in range(24) if j != i]
        terms.append(-log(exp(dot(z[i], z[partner]) / 0.3) / sum(powers)))
    found = method.training_step(batch_of(BOTH), context("pretext")).loss
    assert found.item() == pytest.approx(sum(terms) / 24, rel=1e-10)


def assignments(method):
    with torch.no_grad():
        return [softmax(method.head(method.encoder(view)).tolist()) for view in BOTH]


def test_scans_second_phase_is_consistency_less_the_entropy_of_the_mean():
    method = small("scan", entropy=3)
    p, q = assignments(method)
    consistency = sum(-log(dot(a, b)) for a, b in zip(p, q, strict=True)) / 12
    mean = [sum(row[k] for row in p) / 12 for k in range(3)]
    entropy = -sum(share * log(share) for share in mean)
    found = method.training_step(batch_of(BOTH), context("cluster"))
    assert found.loss.item() == pytest.approx(consistency - 3 * entropy, rel=1e-10)
    assert float(found.metrics["entropy"]) == pytest.approx(entropy, rel=1e-10)


def test_scans_third_phase_is_cross_entropy_with_the_confident_labels_of_the_weak_view():
    method = small("scan")
    p, q = assignments(method)
    threshold = sorted(max(row) for row in p)[5]
    kept = [i for i in range(12) if max(p[i]) > threshold]
    by_class = {}
    for i in kept:
        label = p[i].index(max(p[i]))
        by_class.setdefault(label, []).append(-log(q[i][label]))
    method = small("scan", threshold=threshold)
    batch = Batch({"weak": BOTH[0], "strong": BOTH[1]}, torch.arange(12))
    found = method.training_step(batch, context("self_label"))
    expected = sum(sum(terms) / len(terms) for terms in by_class.values()) / len(by_class)
    assert found.loss.item() == pytest.approx(expected, rel=1e-10)
    assert float(found.metrics["confident"]) == pytest.approx(len(kept) / 12)
    assert 0 < len(kept) < 12


def test_idfds_step_and_memory_are_the_naive_loop():
    settings = {"temperature": 0.7, "feature_temperature": 1.5, "weight": 0.4, "momentum": 0.25}
    method = small("idfd", **settings)
    assert {name: view.kind for name, view in method.phases()[0].views.items()} == {"one": "random"}
    indices, memory = torch.arange(12).flip(0) + 5, method.memory.tolist()
    for step in range(2):
        view = views(step)[0]
        with torch.no_grad():
            z = [unit(row) for row in method.projector(method.encoder(view)).tolist()]
        instances = []
        for i, image in enumerate(indices.tolist()):
            powers = [exp(dot(z[i], other) / 0.7) for other in memory]
            instances.append(-log(powers[image] / sum(powers)))
        columns = [unit([row[at] for row in z]) for at in range(4)]
        features = []
        for at, own in enumerate(columns):
            powers = [exp(dot(other, own) / 1.5) for other in columns]
            features.append(-log(powers[at] / sum(powers)))
        found = method.training_step(Batch({"one": view}, indices), context("discriminate"))
        assert found.loss.item() == pytest.approx(sum(instances) / 12 + 0.4 * sum(features) / 4, rel=1e-9)
        assert method.memory.tolist() == memory  # as it was, until the step is done
        method.after_step(0.5)
        for i, image in enumerate(indices.tolist()):
            memory[image] = unit([0.25 * old + 0.75 * new for old, new in zip(memory[image], z[i], strict=True)])
        assert torch.allclose(method.memory, torch.tensor(memory, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_idfds_memory_starts_on_the_sphere_and_has_a_row_for_every_image():
    memory = small("idfd", n_images=31).memory
    assert memory.shape == (31, 4)
    assert torch.allclose(memory.norm(dim=1), torch.ones(31, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(F.normalize(memory), memory, atol=1e-6)
