"""Run folders of version 0.1 are still read: `data/run-0.1` was written by it, with the first 200 digits in 10 clusters."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_cli import connr, refused

from connr import ConNR, recipe, runs
from connr.data import open_images
from connr.run_folder import RunFolder

FORMER = Path(__file__).parent / "data" / "run-0.1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the run, and the images that it was of."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FORMER, tmp_path / "run")
    np.savez(tmp_path / "images.npz", images=open_images("digits", 8, 1).images[:200, 0].numpy())
    return RunFolder(tmp_path / "run")


def written():
    with open(FORMER / "assignments.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predict_gives_what_version_0_1_assigned(folder):
    done = connr("predict", folder.path, "images.npz")
    assert done.exit_code == 0, done.output
    rows, former = list(csv.DictReader(io.StringIO(done.stdout))), written()
    assert len(rows) == len(former) == 200
    distances = [[float(row["distance"]) for row in each] for each in (rows, former)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-4)
    certain = [at for at, row in enumerate(former) if float(row["boundary_ratio"]) < 0.99]
    assert len(certain) > 150
    assert [rows[at]["cluster"] for at in certain] == [former[at]["cluster"] for at in certain]
    assert len(ConNR.load(folder.path).cluster_centers_) == 10


def test_evaluate_and_report_read_it(folder):
    scores = runs.evaluate(folder)
    last = json.loads(folder.events.read_text().splitlines()[-1])
    assert {name: scores[name] for name in ("acc", "nmi", "ari", "n")} == pytest.approx(
        {name: last[name] for name in ("acc", "nmi", "ari", "n")}
    )
    done = connr("report", folder.path, "images.npz")
    assert done.exit_code == 0, done.output
    page = folder.report.read_text(encoding="utf-8")
    assert "connr 0.1.0" in page
    assert "phase instance: 2 epochs" in page


def test_its_recipe_is_one_of_today(folder):
    r, _ = runs.load_model(folder, "cpu")
    assert recipe.load(str(folder.recipe)) == r
    assert (r.method.name, r.method.base.name, r.method.base.out) == ("connr", "byol", 4)
    assert (r.method.start, r.method.group.neighbourhood.k, r.method.group.anchors.fraction) == (0.67, 8, 0.8)
    again = recipe.load("digits", ["method.start=0.67", "method.base.hidden=8", "method.base.out=4"])
    assert r.method.base == again.method.base
    assert r.method.instance == again.method.instance


def test_its_checkpoints_are_refused_with_a_way_out(folder):
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    words = ["fit", "images.npz", "--recipe", str(folder.recipe), "--out", folder.path, "--resume"]
    message = refused(*words)
    assert "epoch-00003.safetensors has format connr-checkpoint-2, should be connr-checkpoint-3" in message
    assert "Go on with that version, or start anew with another --out." in message
    assert {path: path.read_bytes() for path in before} == before
