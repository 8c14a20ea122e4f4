import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from typer.testing import CliRunner

from connr.cli import app

FAST = [part for setting in TINY for part in ("--set", setting)]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def connr(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments):
    """The one message of bad input; nothing is written."""
    before = sorted(os.listdir())
    result = connr(*arguments)
    assert result.exit_code == 2, result.output
    assert sorted(os.listdir()) == before
    assert result.stderr.startswith("connr: ")
    assert "Traceback" not in result.output
    return result.stderr


def test_help_comes_without_anything_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from connr.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'sklearn', 'lightning_fabric'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_m_connr_answers():
    done = subprocess.run([sys.executable, "-m", "connr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("connr ")


def test_fit_evaluate_resume():
    done = connr("fit", "digits", "--out", "run", *FAST)
    assert done.exit_code == 0, done.output
    assert (
        "1,797 images at 8 px into 10 clusters by byol + connr: 5 epochs, instance from epoch 1, group from epoch 4."
        in done.output
    )
    assert sorted(os.listdir("run")) == [
        ".lock", "assignments.csv", "checkpoints", "clusters.png", "config.json", "events.jsonl", "model.safetensors",
        "recipe.yaml", "report.html",
    ]  # fmt: skip
    scores = json.loads(connr("evaluate", "run", "--json").stdout)
    assert set(scores) == {"acc", "nmi", "ari", "n"}
    assert scores["n"] == 1797
    assert f"ACC {scores['acc']:.4f}" in connr("evaluate", "run").output
    assert "holds a run already; add --resume" in refused("fit", "digits", "--out", "run")
    for asked in ([], ["--clusters", 10, "--set", "train.epochs=5"]):  # the run's own recipe, and some of it said again
        again = connr("fit", "digits", "--out", "run", "--resume", *asked)
        assert again.exit_code == 0, again.output
    assert "- clusters: 10\n  + clusters: 9" in refused("fit", "digits", "--out", "run", "--resume", *FAST, "--clusters", 9)
    assert json.loads(connr("evaluate", "run", "--json").stdout) == scores


def test_fit_a_folder_of_pictures(pictures):
    (pictures / "broken.jpg").write_text("no picture")
    done = connr(
        "fit", pictures, "--clusters", 3, "--out", pictures / "out", "--set", "train.epochs=2", "--set", "data.size=16"
    )
    assert done.exit_code == 0, done.output
    with open(pictures / "out" / "assignments.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert {row["label"] for row in rows} == {""}
    assert (pictures / "out" / "skipped.csv").read_text().splitlines()[1].startswith("broken.jpg,UnidentifiedImageError")
    assert "1 pictures could not be read" in done.output
    with Image.open(pictures / "out" / "clusters.png") as picture:
        assert picture.size[0] > 500
    assert "no image in" in refused("evaluate", pictures / "out")


def test_labels_of_folders_are_scored_when_asked(pictures):
    fast = ["--set", "train.epochs=1", "--set", "data.size=16", "--out", "run", "--quiet"]
    done = connr("fit", pictures, "--clusters", 3, "--labels-from-folders", *fast)
    assert done.exit_code == 0, done.output
    assert done.output == ""
    assert connr("fit", pictures, "--out", "run", "--resume", "--quiet").exit_code == 0  # the run knows of its labels
    assert json.loads(connr("evaluate", "run", "--json").stdout)["n"] == 16  # the 8 at the root have no label


def test_default_run_folders_are_numbered(pictures):
    fast = ["--set", "train.epochs=1", "--set", "data.size=8"]
    for _ in range(2):
        assert connr("fit", pictures, "--clusters", 2, *fast).exit_code == 0
    assert sorted(os.listdir("runs")) == ["pictures-1", "pictures-2"]


def test_demo_ends_with_a_table_and_a_picture():
    done = connr("demo", *FAST)
    assert done.exit_code == 0, done.output
    for method in ("k-means on pixels", "Ward on pixels", "Gaussian mixture on PCA", "BYOL alone", "ConNR"):
        assert method in done.output
    with Image.open("runs/demo-1/clusters.png") as picture:
        assert picture.size[0] > 500
    assert "Cluster 9" in Path("runs/demo-1/report.html").read_text(encoding="utf-8")


def test_recipes():
    listed = connr("recipes", "list").output
    assert "digits" in listed
    assert "cifar10" in listed
    assert connr("recipes", "show", "digits").output.startswith("# connr fit digits")
    assert "epochs: 50" in connr("recipes", "show", "digits", "--set", "train.epochs=50").output
    assert connr("recipes", "copy", "digits", "mine.yaml").exit_code == 0
    assert connr("fit", "digits", "--recipe", "mine.yaml", "--out", "run", *FAST).exit_code == 0
    assert "mine.yaml exists" in refused("recipes", "copy", "digits", "mine.yaml")
    assert "should end in .yaml" in refused("recipes", "copy", "digits", "mine.txt")
    assert "neither a YAML file nor one of" in refused("recipes", "show", "nothing")


def test_bad_input_is_one_message_and_exit_code_2_before_any_work(pictures, tmp_path):
    assert "clusters=25 is more than the 24 images" in refused("fit", pictures, "--clusters", 25)
    assert "add --clusters K" in refused("fit", pictures)
    assert "group.neighbourhood.k1=30 should be at most train.batch_size=16" in refused(
        "fit", "digits", "--set", "train.batch_size=16", "--set", "group.neighbourhood.k1=30"
    )
    assert "group.neighbourhood.k1=25 should be at most train.batch_size=24" in refused(
        "fit", pictures, "--clusters", 3, "--set", "group.neighbourhood.k1=25"
    )
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in refused("fit", "empty", "--clusters", 3)
    assert "'missing' does not exist" in refused("fit", "missing", "--clusters", 3)
    np.savez(tmp_path / "none.npz", pictures=np.zeros((2, 8, 8), np.uint8))
    assert "has no array `images`" in refused("fit", "none.npz", "--clusters", 2)
    np.savez(tmp_path / "floats.npz", images=np.zeros((2, 8, 8)))
    assert "are float64, should be uint8" in refused("fit", "floats.npz", "--clusters", 2)
    np.savez(tmp_path / "flat.npz", images=np.zeros((2, 8), np.uint8))
    assert "have shape [2, 8]" in refused("fit", "flat.npz", "--clusters", 2)
    assert "train.epoch is not a key. Did you mean train.epochs?" in refused("fit", "digits", "--set", "train.epoch=3")
    assert "--resume needs --out" in refused("fit", "digits", "--resume")
    assert "holds no run to resume" in refused("fit", "digits", "--resume", "--out", "nothing")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    assert "not empty and holds no run" in refused("fit", "digits", "--out", "letters")
    assert "device 'tpu' is not available" in refused("fit", "digits", "--device", "tpu")
    assert "holds no run" in refused("evaluate", "letters")
