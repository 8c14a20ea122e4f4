"""The parts of report.html, each by itself."""

import base64
import io
import math

import numpy as np
import pytest
import torch
from conftest import unit_rows
from PIL import Image
from sklearn.manifold import trustworthiness

from connr import metrics, recipe
from connr.clustering.assigners import Assigned
from connr.data import Skipped
from connr.data.pixels import crop_and_resize
from connr.neighbours import contextual, local
from connr.report import baselines, colours, contact, curves, near, thumbnails
from connr.report.confusion import confusion, worst
from connr.report.diagnostics import diagnostics
from connr.report.map import GRID, MOST_POINTS, coordinates, drawn
from connr.report.reading import AssignmentTable, RunRecord, shown
from connr.run_folder import RunFolder


def rows(clusters, labels=None, distances=None, ratios=None):
    n = len(clusters)
    labels = torch.tensor(labels if labels is not None else [-1] * n)
    assigned = Assigned(
        torch.tensor(clusters), torch.tensor(distances or [0.5] * n), torch.tensor(ratios or [i / n for i in range(n)])
    )
    return AssignmentTable([str(i) for i in range(n)], assigned, labels, [f"class {i}" for i in range(int(labels.max()) + 1)])


def decoded(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))) as picture:
        return np.array(picture)


# Thumbnails


@pytest.mark.parametrize("side", [20, 48])
def test_some_of_many_pictures_made_smaller_a_few_at_a_time(side):
    images = torch.randint(0, 256, (700, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(side))
    which, asked = torch.arange(699, 0, -2), []

    class Watched(torch.Tensor):
        def __getitem__(self, rows):
            asked.append(len(rows))
            return images[rows]

    found = thumbnails.smaller(images.as_subclass(Watched), which, side)
    assert torch.equal(found, crop_and_resize(images[which], min(side, 24)))
    assert max(asked) <= thumbnails.AT_A_TIME < sum(asked) == len(which)


@pytest.mark.parametrize("n", [1, 2, 9, 10])
def test_a_sheet_has_each_picture_in_its_place(n):
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    sheet = thumbnails.sheet(images)
    assert sheet.side == 8
    pixels = decoded(sheet.uri)
    for i in range(n):
        top, left = i // sheet.columns * sheet.side, i % sheet.columns * sheet.side
        assert (pixels[top : top + 8, left : left + 8, 1] == images[i, 0].numpy()).all()  # small ones without any loss


def test_large_pictures_are_made_small_and_keep_their_colours():
    image = torch.zeros(3, 200, 200, dtype=torch.uint8)
    image[0], image[2, :, 100:] = 200, 100
    small = decoded(thumbnails.uri(image, 96)).astype(int)
    assert small.shape == (96, 96, 3)
    assert abs(small[48, 20] - [200, 0, 0]).max() < 12
    assert abs(small[48, 76] - [200, 0, 100]).max() < 12


# The map


def test_the_map_keeps_neighbours_together():
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(5, 16, generator=generator)
    features = centres.repeat_interleave(40, dim=0) + torch.randn(200, 16, generator=generator)
    places = coordinates(features, seed=0)
    assert places.shape == (200, 2)
    assert trustworthiness(features.numpy(), places.numpy()) > 0.95
    assert 0 <= int(places.min()) <= int(places.max()) <= GRID
    assert int((places.max(dim=0).values - places.min(dim=0).values).max()) == GRID
    assert torch.equal(places, coordinates(features, seed=0))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 40])
@pytest.mark.parametrize("d", [1, 2, 8])
def test_few_or_equal_images_have_a_map(n, d):
    assert coordinates(torch.ones(n, d), seed=0).tolist() == [[GRID // 2, GRID // 2]] * n  # a collapsed network
    places = coordinates(torch.randn(n, d, generator=torch.Generator().manual_seed(0)), seed=0)
    assert places.shape == (n, 2)
    assert 0 <= int(places.min()) <= int(places.max()) <= GRID


def test_the_map_shows_all_images_or_a_fair_choice():
    assert drawn(7, 0).tolist() == list(range(7))
    many = drawn(4 * MOST_POINTS, 0)
    assert len(many.unique()) == MOST_POINTS
    assert abs(float(many.double().mean()) / (2 * MOST_POINTS) - 1) < 0.05
    assert not torch.equal(many, drawn(4 * MOST_POINTS, 1))


# What the clusters are


def test_a_card_has_the_central_and_the_boundary_ones_and_the_commonest_label():
    found = rows([1, 1, 1, 0], [0, 0, 1, -1], distances=[0.3, 0.1, 0.2, 0.9], ratios=[0.1, 0.5, 0.9, 0.2])
    empty, one = contact.clusters(found, 3, 2, seed=0)[2], contact.clusters(found, 3, 2, seed=0)[1]
    assert one.pictures["Most central"] == [1, 2]
    assert one.pictures["Near a boundary"] == [2, 1]
    assert set(one.pictures["At random"]) < {0, 1, 2}
    assert (one.size, one.label, one.share) == (3, "class 0", pytest.approx(2 / 3))
    assert one.tightness == pytest.approx(0.2)
    assert (empty.size, empty.tightness, empty.label) == (0, None, None)
    assert contact.clusters(found, 3, 2, seed=0)[0].label is None  # its only image is unlabelled


# What lies near what


def test_images_of_each_cluster_with_their_contextual_neighbours(tiny):
    features, among = unit_rows(120, 6, 0), torch.arange(0, 240, 2)  # every other one of 240
    clusters = [(i // 2) % 4 for i in range(240)]
    found = rows(clusters, [i % 3 for i in range(240)], [(i * 37 % 240) / 240 for i in range(240)])
    nearby = near.nearby(features, among, found, tiny)
    section = tiny.method.group.neighbourhood
    expected = contextual(features, 11, section.k1, section.k2)
    assert [(one.cluster, one.where) for one in nearby.images] == [
        (cluster, where) for cluster in range(4) for where in ("near its centre", "near a boundary")
    ]
    for one in nearby.images:
        members = [i for i in among.tolist() if clusters[i] == one.cluster]
        key = found.assigned.distances if one.where == "near its centre" else -found.assigned.ratios
        assert one.image in sorted(members, key=lambda i: float(key[i]))[:3]  # a tenth of 30
        assert one.neighbours == among[expected[one.image // 2, 1:]].tolist()
    assert nearby.among == 120
    labels, members = found.labels[among], found.assigned.clusters[among]
    assert nearby.purity["contextual"] == pytest.approx(metrics.purity(labels, expected))
    assert nearby.purity["cosine"] == pytest.approx(metrics.purity(labels, local(features, 11)))
    assert nearby.together == pytest.approx(metrics.purity(members, expected))
    assert near.nearby(features, among, found, tiny) == nearby


def test_of_many_clusters_some_are_shown(tiny, monkeypatch):
    monkeypatch.setattr(near, "MOST_CLUSTERS", 3)
    nearby = near.nearby(unit_rows(60, 6, 0), torch.arange(60), rows([i % 10 for i in range(60)]), tiny)
    assert len({one.cluster for one in nearby.images}) == 3
    assert len(nearby.images) == 6
    assert nearby.purity == {}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_have_few_neighbours(tiny, n):
    found = near.nearby(unit_rows(n, 4, 0), torch.arange(n), rows([0] * n), tiny)
    if n == 1:
        assert found is None
    else:
        assert all(sorted([one.image, *one.neighbours]) == list(range(n)) for one in found.images)


def test_labels_that_no_neighbour_shares_have_no_purity():
    alone = torch.tensor([0, -1, -1])
    assert near.purities(alone, {"cosine": torch.tensor([[0, 1], [1, 2], [2, 0]])}) == {}


def test_neighbours_are_looked_for_among_all_or_many(tiny, monkeypatch):
    assert near.pool(9, tiny).tolist() == list(range(9))
    monkeypatch.setattr(near, "WHOLE_TO", 2 * MOST_POINTS)
    among = near.pool(3 * MOST_POINTS, tiny)
    assert len(among) == 2 * MOST_POINTS
    assert torch.isin(drawn(3 * MOST_POINTS, tiny.seed), among).all()
    assert torch.equal(among, among.sort().values)
    pretrained = recipe.load("pretrained", clusters=3)
    assert torch.equal(near.pool(3 * MOST_POINTS, pretrained), drawn(3 * MOST_POINTS, pretrained.seed))


# Labels against clusters


@pytest.mark.parametrize(("n_classes", "n_clusters"), [(4, 4), (3, 6), (6, 3)])
def test_the_matching_of_acc_runs_down_the_diagonal(n_classes, n_clusters):
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(n_classes), rng.integers(-1, n_classes, 200)]
    clusters = np.where(rng.random(len(labels)) < 0.7, (labels * 5 + 2) % n_clusters, rng.integers(0, n_clusters, len(labels)))
    found = confusion(rows(clusters.tolist(), labels.tolist()), n_clusters)
    assert found.table.sum() == (labels >= 0).sum()
    assert found.matched == min(n_classes, n_clusters)
    assert np.trace(found.table) / found.table.sum() == pytest.approx(metrics.accuracy(labels, clusters))
    for i, label in enumerate(found.classes):
        for j, cluster in enumerate(found.clusters):
            assert found.table[i, j] == ((labels == label) & (clusters == cluster)).sum()


def test_the_worst_confusions_come_first_with_their_images():
    labels = [0] * 6 + [1] * 6 + [2] * 3
    clusters = [1, 1, 1, 1, *[0] * 7, 1, 2, 3, 2]
    found = rows(clusters, labels, ratios=[0.5, 0.4, 0.3, 0.2, 0.9, 0.1, *[0.5] * 9])
    first, *others = worst(confusion(found, 4), found, 10)
    assert (first.label, first.cluster, first.matched_to, first.of) == (0, 0, 1, 6)
    assert first.images.tolist() == [5, 4]  # the surest first
    assert [(m.label, m.cluster, m.matched_to, len(m.images)) for m in others] == [(1, 1, 0, 1), (2, 3, None, 1)]
    assert len(worst(confusion(found, 4), found, 1)) == 1


# Beside it


def test_simple_methods_find_simple_clusters():
    """Bars that lie or stand, bright or dark: pixels see both, edges the direction."""
    images = torch.zeros(80, 3, 32, 32, dtype=torch.uint8)
    images[:40, :, 12:20], images[40:, :, :, 12:20] = 255, 255
    noise = torch.randint(0, 40, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    truth = torch.arange(80) // 40
    ours, pixels, edges = baselines.compare((images // 2) + noise, 1 - truth, truth, n_clusters=2, seed=0)
    assert (ours.method, ours.agreement, ours.scores["acc"]) == ("ConNR", None, 1.0)
    for row in (pixels, edges):
        assert row.scores["acc"] == row.agreement["nmi"] == row.agreement["ari"] == 1.0
        assert row.seconds > 0
    assert all(row.scores is None for row in baselines.compare(images, truth, torch.full((80,), -1), 2, 0))
    assert baselines.compare(images[:2], truth[:2], truth[:2], n_clusters=3, seed=0) == []


def test_rows_that_are_all_the_same_are_clustered_without_a_warning():
    assert baselines.mixture(torch.ones(20, 4), 2, seed=0).shape == (20,)


# Curves


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1.93, -0.7), (0, 883), (3, 3), (0, 0), (1e-7, 3e-7), (-5, 1e6)])
def test_ticks_are_few_equal_steps_around_the_values(low, high):
    marks = curves.ticks(low, high)
    assert 2 <= len(marks) <= 6
    assert marks[0] <= low + 1e-12
    assert marks[-1] >= high - 1e-12
    assert np.ptp(np.diff(marks)) < 1e-6 * (marks[-1] - marks[0])


def test_curves_go_from_the_first_epoch_to_the_last_and_mark_every_phase():
    records = [{"epoch": e, "stage": "instance" if e < 4 else "group", "loss": -e / 4, "kept": 1.0} for e in range(1, 6)]
    records[1]["loss"] = math.nan
    loss, kept = curves.charts(records, epochs=5)
    assert (loss.title, kept.title) == ("Loss", "Anchors kept")
    (line,) = loss.lines
    assert (line.first, line.last, line.marked) == ("−0.250", "−1.250", True)
    assert [x for x, _ in line.points] == [loss.left + (loss.right - loss.left) * at / 4 for at in (0, 2, 3, 4)]
    assert [y for _, y in line.points] == sorted(y for _, y in line.points)  # falling, in a drawing that grows downward
    assert loss.phases == [(pytest.approx((line.points[1][0] + line.points[2][0]) / 2), "group")]
    assert curves.charts(records[:3], 5)[0].phases == []
    records[4]["stage"] = "labels"
    assert [phase.text for phase in curves.charts(records, 5)[0].phases] == ["group", "labels"]
    assert curves.charts([], 5) == []
    assert len(curves.charts(records[:1], 1)[0].lines[0].points) == 1


def test_epochs_are_marked_at_round_numbers():
    assert curves.epoch_ticks(1) == [1]
    assert curves.epoch_ticks(3) == [1, 2, 3]
    assert curves.epoch_ticks(1000) == [1, 200, 400, 600, 800, 1000]


# Colours


@pytest.mark.parametrize("k", [2, 10, 11, 200])
def test_colours_differ_and_are_seen_on_both_grounds(k):
    palette = colours.palette(k)
    for side, ground in enumerate((colours.LIGHT, colours.DARK)):
        codes = [pair[side] for pair in palette]
        assert len(set(codes)) == k
        parsed = [tuple(int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)) for code in codes]
        assert min(colours.contrast(colour, ground.colour) for colour in parsed) >= ground.contrast - 0.05


# Warnings


def account(clusters=None, k=4, records=(), skipped=()):
    found = rows(clusters) if clusters else None
    r = recipe.load("digits", clusters=k)
    return RunRecord(RunFolder("run"), r, list(records), list(skipped), found, "digits", "0")


EVEN = [0, 1, 2, 3] * 25


def test_a_good_run_has_no_warning():
    assert diagnostics(account(EVEN, records=[{"epoch": 1, "feature_std": 0.9}])) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"clusters": EVEN, "records": [{"epoch": 1, "feature_std": 0.02}]},
            "The features have collapsed: their spread is 0.02",
        ),
        ({"clusters": EVEN, "records": [{"epoch": 1, "feature_std": math.nan}]}, "The features have collapsed"),
        ({"clusters": [2] * 97 + [0, 1, 3]}, "Cluster 2 holds 97% of the images"),
        ({"clusters": [0, 1, 2] * 30}, "Cluster 3 is empty: the images may have fewer kinds than 4"),
        ({"clusters": [0] * 30 + [1] * 30}, "2 clusters (2, 3) are empty"),
        ({"clusters": [0, 1, 2] * 30 + [3, 3]}, "Cluster 3 is tiny (2 images"),
        (
            {"clusters": EVEN, "skipped": [Skipped("a", "OSError: cut off")] * 2},
            "2 files could not be read and are skipped",
        ),
        ({"clusters": EVEN, "records": [{"epoch": 3, "warnings": ["K is odd"]}, {"epoch": 4}]}, "In epoch 3: K is odd"),
        (
            {"clusters": EVEN, "records": [*({"epoch": e, "warnings": ["odd"]} for e in (3, 5, 6)), {"epoch": 7}]},
            "In 3 epochs, 3 to 6: odd",
        ),
        ({"records": [{"epoch": 1, "cluster_sizes": [9, 9, 9, 0]}]}, "Cluster 3 is empty"),
    ],
)
def test_what_is_wrong_is_said(given, said):
    assert [caution for caution in diagnostics(account(**given)) if caution.startswith(said)]


def test_a_warning_of_an_earlier_epoch_that_is_over_is_not_the_state():
    recovered = [{"epoch": 1, "feature_std": 0.01}, {"epoch": 2}, {"epoch": 3, "feature_std": 0.8}]
    assert diagnostics(account(EVEN, records=recovered)) == []


def test_names_that_are_not_utf8_are_shown():
    assert shown("caf\udce9.png") == "caf\ufffd.png"
    assert shown("жираф.png") == "жираф.png"
