"""A method in a file outside the package goes through every command; `examples/toy_method.py` is that file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOY = Path(__file__).parent.parent / "examples" / "toy_method.py"
SMALL = ["method=toy", "method.width=16", "train.epochs=3", "train.keep_checkpoints=0", "train.evaluate_every=1"]
FIT = ["fit", "digits", "--recipe", "digits", *(part for each in [*SMALL, "backbone.width=4"] for part in ("--set", each))]


def connr(*arguments, plugin=TOY, path=()):
    """The command in a process of its own; the registry of this process stays as it is."""
    line = [sys.executable, "-m", "connr", *(["--plugin", str(plugin)] if plugin else []), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment(path))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(path=()):
    there = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(there), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the toy method. Not to be changed."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    connr(*FIT, "--out", folder)
    return folder


def clusters(text):
    return [line.split(",")[1] for line in text.splitlines()[1:]]


def assigned(folder):
    return clusters((folder / "assignments.csv").read_text())


def test_fit_clusters_better_than_chance(run):
    from sklearn.datasets import load_digits

    from connr.metrics import accuracy

    found = np.array(assigned(run), dtype=int)
    assert len(set(found.tolist())) == 10
    assert accuracy(load_digits().target, found) > 0.4
    assert "name: toy" in (run / "recipe.yaml").read_text()


def test_predict_gives_the_clusters_of_the_fit(run):
    assert clusters(connr("predict", run, "digits")) == assigned(run)


def test_report_shows_the_run(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "report.html").unlink()
    connr("report", copy)
    assert "1,797 images in 10 clusters" in (copy / "report.html").read_text()


def test_export_to_onnx_gives_the_same_clusters(run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from connr.data import open_images

    connr("export", run, "--to", "onnx", "--out", tmp_path / "toy.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "toy.onnx"), providers=["CPUExecutionProvider"])
    images = open_images("digits", 8, 1).images[:].permute(0, 2, 3, 1).contiguous().numpy()
    found = dict(zip((each.name for each in session.get_outputs()), session.run(None, {"images": images}), strict=True))
    assert [str(each) for each in found["cluster"].tolist()] == assigned(run)


def test_resume_ends_as_the_uninterrupted_run(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    kept, *later = sorted((copy / "checkpoints").iterdir())
    for place in (*later, copy / "assignments.csv", copy / "model.safetensors", copy / "config.json"):
        place.unlink()
    assert later
    connr("fit", "digits", "--out", copy, "--resume")
    assert kept.is_file()
    for name in ("assignments.csv", "model.safetensors"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_two_processes_train_what_one_does(tmp_path):
    """The loss couples the whole batch: it is gathered from both processes. In double precision, for one epoch, they agree."""
    exact = ["--set", "train.precision=64-true", "--set", "train.epochs=1"]
    for count in (1, 2):
        connr(*FIT, *exact, "--out", tmp_path / str(count), "--devices", count)
    assert assigned(tmp_path / "1") == assigned(tmp_path / "2")


def test_a_plugin_is_found_by_its_module_name_too(tmp_path):
    shutil.copy(TOY, tmp_path / "elsewhere.py")
    assert "name: toy" in connr("recipes", "show", "digits", "--set", "method=toy", plugin="elsewhere", path=[tmp_path])


def test_two_plugin_files_of_one_name_are_both_imported(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        text = TOY.read_text().replace('"toy"', f'"{name}"')
        (tmp_path / name / "mine.py").write_text(text)
    places = os.pathsep.join(str(tmp_path / name / "mine.py") for name in ("one", "two"))
    code = "from connr.registry import METHODS; print(*METHODS)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env={**environment(), "CONNR_PLUGINS": places})
    assert {"one", "two"} <= set(done.stdout.split())


def test_the_way_to_go_on_names_the_plugin(tmp_path):
    place = tmp_path / "my method.py"
    place.write_text(
        TOY.read_text().replace("        one, other =", "        raise OSError(28, 'No space left')\n        one, other =")
    )
    line = [sys.executable, "-m", "connr", "--plugin", str(place), *FIT, "--out", str(tmp_path / "run")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 1
    assert f"To continue: connr --plugin '{place}' fit digits --out {tmp_path / 'run'} --resume" in done.stdout


@pytest.mark.parametrize(("content", "what"), [(None, "FileNotFoundError"), ("1 / 0", "ZeroDivisionError")])
def test_a_plugin_that_fails_is_named(tmp_path, content, what):
    place = tmp_path / "broken.py"
    if content:
        place.write_text(content)
    line = [sys.executable, "-m", "connr", "--plugin", str(place), "recipes", "show", "digits", "--set", "seed=1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 2
    assert f"the plug-in {place} cannot be imported: {what}" in done.stderr
