"""report.html as a file: what it says against the run folder it is of, what it escapes, what it refuses."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import reports
import torch
from typer.testing import CliRunner

from connr import metrics, runs
from connr.cli import app
from connr.errors import InputError
from connr.neighbours import contextual
from connr.report import near, page
from connr.run_folder import RunFolder
from connr.schema import AssignmentRow, write_csv


@pytest.fixture(scope="module")
def digits(tmp_path_factory, few_digits):
    return reports.digits_report(tmp_path_factory.mktemp("digits"), few_digits)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return reports.pictures_report(tmp_path_factory.mktemp("pictures"))


def rows(folder):
    with open(folder.assignments, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def copied(folder, place):
    shutil.copytree(folder.path, place)
    return RunFolder(place)


def test_every_cluster_has_the_number_size_and_tightness_of_the_assignments(digits):
    tree, sizes = reports.tree(digits), Counter(int(row["cluster"]) for row in rows(digits))
    for cluster in range(10):
        distances = [float(row["distance"]) for row in rows(digits) if int(row["cluster"]) == cluster]
        size, distance = [e["text"] for e in tree.all("dd") if f"cluster-{cluster}" in e["within"]]
        assert [e["text"] for e in tree.all("h3") if f"cluster-{cluster}" in e["within"]] == [f"Cluster {cluster}"]
        assert size == str(sizes[cluster])
        assert distance == (f"{sum(distances) / len(distances):.2f}" if distances else "–")


def test_the_pictures_of_a_card_are_of_its_cluster(digits):
    tree, found = reports.tree(digits), {row["path"]: row for row in rows(digits)}
    for cluster in range(10):
        members = [row for row in found.values() if int(row["cluster"]) == cluster]
        pictures = [e["attrs"] for e in tree.all("img") if f"cluster-{cluster}" in e["within"]]
        names = [attrs["alt"].split(",")[0] for attrs in pictures]
        assert len(names) == 3 * min(10, len(members))
        assert {int(found[name]["cluster"]) for name in names} <= {cluster}
        distances, ratios = ([float(found[name][key]) for name in names] for key in ("distance", "boundary_ratio"))
        count = len(names) // 3
        assert distances[:count] == sorted(float(row["distance"]) for row in members)[:count]
        assert ratios[2 * count :] == sorted((float(row["boundary_ratio"]) for row in members), reverse=True)[:count]


def test_what_lies_near_what_is_told_of_all_images(digits, few_digits):
    tree, found = reports.tree(digits), {row["path"]: row for row in rows(digits)}
    r, model = runs.load_model(digits)
    section = r.method.group.neighbourhood
    neighbours = contextual(model.transform(few_digits.images), 11, section.k1, section.k2)
    pictures = [e["attrs"] for e in tree.all("img") if "near" in e["within"]]
    names = [attrs["alt"].split(",")[0] for attrs in pictures]
    for at in range(0, len(names), 11):
        assert names[at : at + 11] == [few_digits.names[i] for i in neighbours[few_digits.names.index(names[at])]]
        own = found[names[at]]["cluster"]
        for attrs, name in zip(pictures[at : at + 11], names[at : at + 11], strict=True):
            marked = f", in cluster {found[name]['cluster']}" if found[name]["cluster"] != own else ""
            assert attrs["alt"] == f"{name}, labelled {found[name]['label']}{marked}"
    shown = len({row["cluster"] for row in found.values()})
    assert len(names) == 11 * 2 * min(6, shown)
    told = tree.id("near")["text"]
    assert f"and {metrics.purity(few_digits.labels, neighbours):.1%} have its label" in told
    assert "among all 400 images" in told


def test_of_more_images_many_are_looked_through(digits, few_digits, tmp_path, monkeypatch):
    folder = copied(digits, tmp_path / "run")
    before = reports.tree(folder)
    for name, most in (("WHOLE_TO", 300), ("MOST_POINTS", 100)):
        monkeypatch.setattr(near, name, most)
    monkeypatch.setattr("connr.report.map.MOST_POINTS", 100)
    monkeypatch.setattr(page, "AT_A_TIME", 64)
    page.write(folder, few_digits)
    tree, table = reports.tree(folder), {row["path"]: row for row in rows(folder)}
    assert "among 300 of the 400 images, drawn at random" in tree.id("near")["text"]
    assert len(tree.points["name"]) == 100
    assert [table[name]["cluster"] for name in tree.points["name"]] == list(map(str, tree.points["cluster"]))
    assert len(before.points["name"]) == 400


def test_the_points_of_the_map_are_the_assignments(digits):
    points, table = reports.tree(digits).points, rows(digits)
    assert points["name"] == [row["path"] for row in table]
    assert points["cluster"] == [int(row["cluster"]) for row in table]
    assert points["label"] == [row["label"] for row in table]
    ratios = sorted(float(row["boundary_ratio"]) for row in table)
    assert points["edge"] == [int(float(row["boundary_ratio"]) > ratios[int(0.8 * len(table)) - 1]) for row in table]
    assert {0, 10_000} & set(points["x"] + points["y"])
    assert all(0 <= at <= 10_000 for at in points["x"] + points["y"])


def test_the_headline_and_the_table_have_the_scores_of_the_run(digits):
    tree, scores = reports.tree(digits), runs.evaluate(digits)
    assert tree.all("h1")[0]["text"] == "400 images in 10 clusters"
    figures = [element["text"] for element in tree.all("dd")][:3]
    assert figures == [f"{scores[name]:.3f}" for name in ("acc", "nmi", "ari")]
    ours, pixels, gradients = [e["text"].split("\n")[0] for e in tree.all("tr") if "beside" in e["within"]][1:]
    assert (ours, pixels, gradients) == ("ConNR", "k-means on pixels", "k-means on HOG + PCA")
    matched = [int(e["text"] or 0) for e in tree.all("td") if "match" in e["attrs"].get("class", "")]
    cells = [int(e["text"] or 0) for e in tree.all("td") if "confusions" in e["within"]]
    assert sum(cells) == 400
    assert sum(matched) / 400 == pytest.approx(scores["acc"])


def test_there_is_a_curve_for_each_number_of_the_epochs(digits):
    tree = reports.tree(digits)
    drawn = [e["attrs"]["aria-label"] for e in tree.all("svg") if "aria-label" in e["attrs"]]
    assert [label.split(" over ")[0] for label in drawn] == [
        "Loss", "Scores", "Cluster sizes", "Spread of the features", "Anchors kept"
    ]  # fmt: skip
    last = runs.history(digits)[-1]
    assert drawn[0].endswith(f"to {last['loss']:.3f}".replace("-", "−"))
    assert f"ACC from {runs.history(digits)[1]['acc']:.3f} to {last['acc']:.3f}" in drawn[1]
    assert f"to {max(last['cluster_sizes'])}, median" in drawn[2]
    assert sum(e["text"] == "group" for e in tree.all("text")) == 5


def test_names_are_escaped_wherever_they_stand(pictures):
    tree, html = reports.tree(pictures), pictures.report.read_text(encoding="utf-8")
    assert f"{reports.EVIL_CLASS}/{reports.EVIL}" in tree.points["name"]
    assert reports.EVIL_CLASS in tree.points["label"]
    assert "<img src=x" not in html
    assert "<b>broken" not in html
    assert len(tree.all("script")) == 2
    assert all(image["attrs"]["src"].startswith("data:image/webp;base64,") for image in tree.all("img"))
    assert any(reports.EVIL in image["attrs"]["alt"] for image in tree.all("img"))
    assert "cold/caf\ufffd.png" in tree.points["name"]
    assert "cold/<b>broken.jpg" in tree.id("skipped")["text"]


def test_every_picture_has_a_text_and_nothing_is_fetched(digits, pictures):
    for folder in (digits, pictures):
        tree, html = reports.tree(folder), folder.report.read_text(encoding="utf-8")
        assert all(image["attrs"]["alt"].strip() for image in tree.all("img"))
        assert all("aria-label" in e["attrs"] or e["attrs"].get("role") == "img" for e in tree.all("canvas"))
        assert not [e for e in tree.elements if "style" in e["attrs"] or any(name.startswith("on") for name in e["attrs"])]
        addresses = [e["attrs"][key] for e in tree.elements for key in ("src", "href") if key in e["attrs"]]
        assert all(address.startswith(("data:", "#")) for address in addresses)
        assert "http://" not in html
        assert "https://" not in html


def test_skipped_files_are_a_warning_and_a_list(pictures):
    tree = reports.tree(pictures)
    assert "1 file could not be read and is skipped (1 UnidentifiedImageError)" in tree.id("warnings")["text"]
    assert not tree.has("fine")


def test_a_run_without_warnings_says_so(digits, tmp_path):
    folder = copied(digits, tmp_path / "run")
    table = rows(folder)
    for at, row in enumerate(table):
        row["cluster"] = at % 10
    write_csv(folder.assignments, AssignmentRow._fields, [row.values() for row in table])
    assert page.diagnostics(page.read(folder)) == []


def test_unlabelled_images_have_agreement_instead_of_scores(digits, few_digits, tmp_path):
    folder = copied(digits, tmp_path / "run")
    unlabelled = replace(few_digits, labels=torch.full((400,), -1))
    table = [{**row, "label": ""} for row in rows(folder)]
    write_csv(folder.assignments, AssignmentRow._fields, [row.values() for row in table])
    page.write(folder, unlabelled)
    tree = reports.tree(folder)
    assert not tree.has("confusions")
    header = [e["text"] for e in tree.all("th") if "beside" in e["within"]][:4]
    assert header == ["method", "agreement, NMI", "ARI", "time"]
    assert "mostly" not in tree.id("map")["text"]
    assert "have its label" not in tree.id("near")["text"]


def test_an_unfinished_run_has_curves_and_says_so(digits, tmp_path):
    folder = copied(digits, tmp_path / "run")
    for path in (folder.model, folder.config, folder.assignments, folder.report):
        path.unlink()
    folder.events.write_text("".join(json.dumps(record) + "\n" for record in runs.history(folder)[:3]))
    done = CliRunner().invoke(app, ["report", str(folder.path)])
    assert done.exit_code == 0, done.output
    tree = reports.tree(folder)
    assert tree.all("h1")[0]["text"] == "Not finished: 3 of 5 epochs"
    assert "--resume" in tree.id("unfinished")["text"]
    assert [e for e in tree.all("svg") if e["attrs"].get("aria-label", "").startswith("Loss")]
    assert not tree.has("clusters")
    assert not tree.all("script")
    folder.events.write_text("")
    page.write(folder)
    assert "No epoch is finished yet" in reports.tree(folder).id("curves")["text"]


def test_the_command_makes_the_same_report_again(pictures, tmp_path):
    before = reports.tree(pictures).points
    done = CliRunner().invoke(app, ["report", str(pictures.path)])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("report.html")
    assert reports.tree(pictures).points == before
    moved = tmp_path / "moved"
    shutil.copytree(pictures.path.parent / "pictures", moved)
    assert CliRunner().invoke(app, ["report", str(pictures.path), str(moved)]).exit_code == 0
    assert reports.tree(pictures).points == before


def refused(*arguments):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("connr: ")
    return result.stderr


def test_images_that_are_not_the_runs_are_refused(digits, pictures, tmp_path, few_digits):
    assert "was fitted on arrays in memory" in refused(digits.path)
    assert "(1,797 against 400): 1,397 are new, e.g. '1000'" in refused(digits.path, "digits")
    moved = tmp_path / "moved"
    shutil.copytree(pictures.path.parent / "pictures", moved)
    (moved / "02.png").rename(moved / "zz.png")
    assert "1 are missing, e.g. '02.png'; 1 are new, e.g. 'zz.png'" in refused(pictures.path, moved)
    assert "'nowhere' does not exist" in refused(pictures.path, "nowhere")
    with pytest.raises(InputError, match="another order"):
        page.write(digits, replace(few_digits, names=few_digits.names[::-1]))


def test_broken_run_folders_are_refused(digits, tmp_path):
    assert "holds no run" in refused(tmp_path)
    folder = copied(digits, tmp_path / "run")
    whole = folder.assignments.read_text()
    for broken in ("path,cluster\n0,1\n", whole.replace("\n1,", "\n1,x", 1), whole.replace("\n0,", "\n0,99", 1)):
        folder.assignments.write_text(broken)
        assert "is not as a run writes it" in refused(folder.path)
    folder.config.write_text("{")
    assert "cannot be read" in refused(folder.path)
