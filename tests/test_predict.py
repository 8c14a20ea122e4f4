import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import connr, refused  # the command, and its refusals
from typer.testing import CliRunner

from connr import ConNR, inference, runs
from connr.cli import app
from connr.clustering.assigners import nearest_centroid
from connr.data import stream
from connr.data.stream import open_stream, split_paths
from connr.errors import InputError
from connr.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def assignments(coloured_run):
    return table((coloured_run / "assignments.csv").read_text())


def test_a_folder_gets_the_answers_of_the_run(coloured_run, coloured):
    done = connr("predict", coloured_run, coloured)
    assert done.exit_code == 0, done.output
    rows, fitted = table(done.stdout), assignments(coloured_run)
    assert list(rows[0]) == ["path", "cluster", "distance", "confidence", "runner_up"]
    for row, was in zip(rows, fitted, strict=True):
        assert (row["path"], row["cluster"]) == (was["path"], was["cluster"])
        assert float(row["distance"]) == pytest.approx(float(was["distance"]), abs=1e-5)
        assert float(row["confidence"]) == pytest.approx(
            1 - float(was["boundary_ratio"]), abs=1e-5
        )  # both are rounded to six digits
    assert {row["runner_up"] for row in rows} <= {"0", "1", "2"}
    assert done.stderr == ""


def test_confidence_and_runner_up_are_of_the_two_nearest_centroids():
    centroids = torch.eye(4)[:3]
    features = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0.5, 0, 0], [0, 0.2, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]), dim=1
    )
    found = nearest_centroid(features, centroids)
    for row, feature in enumerate(features.double()):
        order = sorted((float((feature - c).norm()), k) for k, c in enumerate(centroids.double()))
        if order[1][0] - order[0][0] > 1e-6:  # else either is the nearest
            assert (found.clusters[row], found.runners_up[row]) == (order[0][1], order[1][1])
        assert {int(found.clusters[row]), int(found.runners_up[row])} == {order[0][1], order[1][1]}
        assert float(found.confidences[row]) == pytest.approx(1 - order[0][0] / order[1][0], abs=1e-6)
    assert found.confidences[2] == 1
    assert float(found.confidences[3]) == pytest.approx(0, abs=1e-6)


def test_one_picture_an_npz_and_a_name(coloured_run, coloured):
    (row,) = table(connr("predict", coloured_run, coloured / "a" / "00.png").stdout)
    assert row["path"] == str(coloured / "a" / "00.png")
    assert row["cluster"] == assignments(coloured_run)[0]["cluster"]
    np.savez("images.npz", images=np.stack([np.asarray(Image.open(path)) for path in sorted(coloured.rglob("*.png"))]))
    rows = table(connr("predict", coloured_run, "images.npz").stdout)
    assert [row["path"] for row in rows] == [str(index) for index in range(60)]
    assert sum(row["cluster"] == was["cluster"] for row, was in zip(rows, assignments(coloured_run), strict=True)) >= 57
    assert len(table(connr("predict", coloured_run, "digits").stdout)) == 1797


def test_paths_on_standard_input_keep_their_order(coloured_run, coloured):
    paths = [str(path) for path in sorted(coloured.rglob("*.png"), reverse=True)]
    clusters = {str(coloured / row["path"]): row["cluster"] for row in assignments(coloured_run)}
    for options, end in ((["-"], "\n"), (["-"], "\r\n"), (["-", "-0"], "\0")):
        given = end.join(paths) + ("" if end == "\r\n" else end)
        done = CliRunner().invoke(app, ["predict", str(coloured_run), *options], input=given.encode())
        assert done.exit_code == 0, done.output
        assert [(row["path"], row["cluster"]) for row in table(done.stdout)] == [(path, clusters[path]) for path in paths]


def test_paths_are_cut_where_they_end():
    assert list(split_paths([b"a b\n", b"\n", b"c"])) == ["a b", "c"]
    assert list(split_paths([b"a\nb\0c\0"], null=True)) == ["a\nb", "c"]
    assert list(split_paths([b"caf\xe9\n"])) == [os.fsdecode(b"caf\xe9")]


def test_what_cannot_be_read_is_counted_and_listed(coloured_run, coloured):
    Path("broken.png").write_text("no picture")
    paths = f"{coloured}/a/00.png\nbroken.png\nnot/there.png\n{coloured}/a/01.png\n".encode()
    done = CliRunner().invoke(app, ["predict", str(coloured_run), "-"], input=paths)
    assert [row["path"] for row in table(done.stdout)] == [f"{coloured}/a/00.png", f"{coloured}/a/01.png"]
    assert "2 could not be read" in done.stderr
    assert "broken.png: UnidentifiedImageError" in done.stderr
    assert "not/there.png: FileNotFoundError" in done.stderr
    done = CliRunner().invoke(app, ["predict", str(coloured_run), "-", "--out", "new.csv"], input=paths)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "see new.skipped.csv" in done.stderr
    assert [row["path"] for row in table(Path("new.skipped.csv").read_text())] == ["broken.png", "not/there.png"]
    again = connr("predict", coloured_run, coloured, "--out", "new.csv", "--overwrite")
    assert again.exit_code == 0, again.output
    assert sorted(os.listdir()) == ["broken.png", "new.csv"]  # the old list was of the old file
    assert len(table(Path("new.csv").read_text())) == 60


def test_parquet_holds_what_csv_holds(coloured_run, coloured):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert connr("predict", coloured_run, coloured, "--out", "new.parquet").exit_code == 0
    columns = parquet.read_table("new.parquet").to_pydict()
    rows = table(connr("predict", coloured_run, coloured).stdout)
    assert columns["path"] == [row["path"] for row in rows]
    for name in ("cluster", "runner_up"):
        assert columns[name] == [int(row[name]) for row in rows]
    for name in ("distance", "confidence"):
        assert columns[name] == pytest.approx([float(row[name]) for row in rows], abs=1e-6)


def test_names_with_commas_quotes_and_odd_bytes_come_through(coloured_run, coloured):
    folder = Path("odd")
    folder.mkdir()
    names = ['a,"b"\nc.png', os.fsdecode(b"caf\xe9.png"), "=1+1.png"]
    for name in names:
        shutil.copy(coloured / "a" / "00.png", folder / name)
    assert connr("predict", coloured_run, folder, "--out", "odd.csv").exit_code == 0
    with open("odd.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [row["path"] for row in csv.DictReader(file)] == sorted(names)
    parquet = pytest.importorskip("pyarrow.parquet")
    assert connr("predict", coloured_run, folder, "--out", "odd.parquet").exit_code == 0
    assert "caf\\xe9.png" in parquet.read_table("odd.parquet").to_pydict()["path"]


def test_bad_input_is_refused_and_nothing_is_lost(coloured_run, coloured, monkeypatch):
    Path("broken.png").write_text("no picture")
    Path("new.csv").write_text("mine")
    assert "'missing' does not exist" in refused("predict", coloured_run, "missing")
    assert "broken.png cannot be read as a picture: Unidentified" in refused("predict", coloured_run, "broken.png")
    assert "new.csv exists; add --overwrite" in refused("predict", coloured_run, coloured, "--out", "new.csv")
    assert "should end in .csv or .parquet" in refused("predict", coloured_run, coloured, "--out", "new.txt")
    assert "there is no folder none" in refused("predict", coloured_run, coloured, "--out", "none/new.csv")
    assert "holds no run" in refused("predict", "nothing", coloured)
    assert "--null needs paths on standard input" in refused("predict", coloured_run, coloured, "-0")
    assert "there are no paths" in refused("predict", coloured_run, "-")
    done = CliRunner().invoke(
        app, ["predict", str(coloured_run), "-", "--out", "new.csv", "--overwrite"], input=b"broken.png\n"
    )
    assert done.exit_code == 2
    assert "none of the pictures can be read; the first, broken.png: Unidentified" in done.stderr
    assert Path("new.csv").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "connr[parquet]"' in refused("predict", coloured_run, coloured, "--out", "new.parquet")


def test_a_stream_is_read_as_it_is_needed(coloured_run, coloured, monkeypatch):
    """However many paths come, few are held: here a path is drawn only when an earlier chunk has been taken."""
    drawn, some = 0, sorted(coloured.rglob("*.png"))

    def paths():
        nonlocal drawn
        while True:
            drawn += 1
            yield str(some[drawn % len(some)])

    monkeypatch.setattr("connr.inference.rows.AT_A_TIME", 8)
    rows, total = inference.assign(*runs.load_model(RunFolder(coloured_run)), paths())
    assert total is None
    for chunk in range(1, 5):
        names, assigned, skipped = next(rows)
        assert (len(names), len(assigned.clusters), skipped) == (8, 8, [])
        assert drawn <= 8 * (chunk + stream.CHUNKS_AHEAD)
    rows.close()


def test_chunks_are_full_whatever_is_skipped_between(coloured, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    paths = [str(path) for path in sorted(coloured.rglob("*.png"))]
    mixed = [path for pair in zip(paths, [str(tmp_path / "broken.png")] * 60, strict=True) for path in pair]
    chunks = list(open_stream(mixed, 16, 3, 32).chunks)
    assert [len(chunk.names) for chunk in chunks] == [32, 28]
    assert [name for chunk in chunks for name in chunk.names] == paths
    assert sum(len(chunk.skipped) for chunk in chunks) == 60
    with pytest.raises(InputError, match="none of the pictures can be read"):
        list(open_stream(mixed[1::2], 16, 3, 32).chunks)


def test_a_reader_that_has_seen_enough_gets_no_traceback(coloured_run):
    command = [sys.executable, "-m", "connr", "predict", str(coloured_run), "digits"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout.readline() == b"path,cluster,distance,confidence,runner_up\n"
        done.stdout.close()
        assert done.stderr.read() == b""
        assert done.wait() == 1


def test_evaluate_scores_other_images_too(coloured_run, coloured):
    scores = json.loads(connr("evaluate", coloured_run, coloured, "--labels-from-folders", "--json").stdout)
    model = ConNR.load(coloured_run)
    labels = [Path(row["path"]).parent.name == "b" for row in assignments(coloured_run)]
    assert scores["n"] == 60
    assert scores["acc"] == model.score(coloured, np.array(labels, int))
    assert "add --labels-from-folders" in refused("evaluate", coloured_run, coloured)
    assert "needs DATA" in refused("evaluate", coloured_run, "--labels-from-folders")
    assert "no image in" in refused("evaluate", coloured_run)
    assert json.loads(connr("evaluate", coloured_run, "digits", "--json").stdout)["n"] == 1797
