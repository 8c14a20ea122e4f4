import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import connr, refused

from connr import metrics, runs
from connr.data import open_images
from connr.inference.neighbours import neighbours
from connr.neighbours import contextual, local
from connr.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("_in_a_folder_of_its_own")


@pytest.fixture
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def features_of(folder, images):
    return runs.load_model(RunFolder(folder))[1].transform(images.images)


def test_they_are_the_rows_of_the_whole_set(coloured_run, coloured):
    images = open_images(coloured, 16, 3)
    features, at = features_of(coloured_run, images), images.names.index("a/07.png")
    found = neighbours(RunFolder(coloured_run), "a/07.png", 4)
    assert found.ways["cosine"].tolist() == local(features, 5)[at, 1:].tolist()
    assert found.ways["contextual"].tolist() == contextual(features, 5, 5, 2)[at, 1:].tolist()
    assert found.similarities["cosine"].tolist() == pytest.approx(sorted(found.similarities["cosine"].tolist(), reverse=True))
    assert torch.equal(found.picture, images.images[at])
    assert found.purity == {}


def test_the_command_writes_a_table_and_a_picture(coloured_run):
    done = connr("neighbours", coloured_run, "--image", "b/03.png", "--count", 3, "--sheet", "near.png")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["neighbourhood"], row["rank"]) for row in rows] == [
        (way, str(rank)) for way in ("contextual", "cosine") for rank in (1, 2, 3)
    ]
    with open(coloured_run / "assignments.csv", newline="") as file:
        clusters = {row["path"]: row["cluster"] for row in csv.DictReader(file)}
    assert all(row["cluster"] == clusters[row["path"]] and row["path"] != "b/03.png" for row in rows)
    assert Path("near.png").read_bytes().startswith(b"\x89PNG")


def test_a_new_picture_is_looked_at_among_the_others(coloured_run, coloured, tmp_path):
    copy = tmp_path / "new.png"
    copy.write_bytes((coloured / "a" / "07.png").read_bytes())
    new = neighbours(RunFolder(coloured_run), str(copy), 4)
    known = neighbours(RunFolder(coloured_run), "a/07.png", 4)
    assert new.rows.names[new.ways["cosine"][0]] == "a/07.png"
    assert set(new.ways["cosine"][1:].tolist()) <= set(known.ways["cosine"].tolist())
    assert new.cluster == known.cluster


def test_purity_is_over_the_whole_set(tmp_path, tiny, few_digits):
    folder = RunFolder(tmp_path / "run")
    labels = few_digits.labels
    runs.fit(tiny, few_digits, folder)
    np.savez(tmp_path / "digits.npz", images=few_digits.images[:, 0].numpy(), labels=labels.numpy())
    found = neighbours(folder, "0", 5, data=str(tmp_path / "digits.npz"))
    features = features_of(folder.path, few_digits)
    assert found.purity["cosine"] == pytest.approx(metrics.purity(labels, local(features, 6)))
    assert found.purity["contextual"] == pytest.approx(metrics.purity(labels, contextual(features, 6, 10, 2)))
    assert found.table()[0][5] in found.rows.class_names


def test_what_is_not_there_is_refused(coloured_run):
    assert "Did you mean a/07.png" in refused("neighbours", coloured_run, "--image", "a/07.pn")
    assert "should be between 1 and 59" in refused("neighbours", coloured_run, "--image", "a/07.png", "--count", 60)
    assert "should be a .png" in refused("neighbours", coloured_run, "--image", "a/07.png", "--sheet", "near.jpg")
    assert "holds no run" in refused("neighbours", "missing", "--image", "a/07.png")
    Path("broken.png").write_text("no picture")
    assert connr("neighbours", coloured_run, "--image", "broken.png").exit_code == 2
