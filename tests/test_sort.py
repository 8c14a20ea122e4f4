import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from test_cli import connr, refused
from test_predict import assignments

from connr import sort
from connr.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def moved(tmp_path, coloured_run, coloured):
    """A copy of run and coloured, to be changed; the pictures are not where the run thinks they are."""
    shutil.copytree(coloured_run, tmp_path / "run")
    shutil.copytree(coloured, tmp_path / "here")
    config = json.loads(Path("run/config.json").read_text())
    Path("run/config.json").write_text(json.dumps({**config, "data": str(tmp_path / "elsewhere")}))
    return tmp_path


def table(path):
    return list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"))))


@pytest.mark.parametrize("how", ["--link", "--copy"])
def test_every_picture_is_in_the_folder_of_its_cluster(coloured_run, coloured, how):
    done = connr("sort", coloured_run, "sorted", how)
    assert done.exit_code == 0, done.output
    assert done.output == f"60 pictures {'linked' if how == '--link' else 'copied'}: sorted\n"
    rows, index = assignments(coloured_run), {row["path"]: row["file"] for row in table("sorted/sorted.csv")}
    assert sorted(os.listdir("sorted")) == ["cluster-00", "cluster-01", "cluster-02", "sorted.csv"]
    for row in rows:
        file = Path("sorted", index[row["path"]])
        assert file.parent.name == f"cluster-0{row['cluster']}"
        assert file.name.endswith(f"-{Path(row['path']).name}")
        assert file.is_symlink() == (how == "--link")
        assert file.read_bytes() == (coloured / row["path"]).read_bytes()
    assert len(set(index.values())) == 60  # a/00.png and b/00.png are two pictures
    for cluster in range(3):
        by_name = sorted(os.listdir(f"sorted/cluster-0{cluster}"))
        distance = {index[row["path"]]: float(row["distance"]) for row in rows}
        ranked = [distance[f"cluster-0{cluster}/{name}"] for name in by_name]
        assert ranked == sorted(ranked)


@pytest.mark.usefixtures("moved")
def test_links_hold_when_all_is_moved_together():
    assert connr("sort", "run", "sorted", "--pictures", "here").exit_code == 0
    Path("box").mkdir()
    for name in ("here", "sorted"):
        shutil.move(name, f"box/{name}")
    assert all(path.is_file() for path in Path("box/sorted").rglob("*.png"))


def test_without_links_pictures_are_copied_and_that_is_said(coloured_run, monkeypatch):
    def refuse(*_):
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    done = connr("sort", coloured_run, "sorted")
    assert "60 could not be linked here and are copied." in done.output
    assert sum(path.is_file() and not path.is_symlink() for path in Path("sorted").rglob("*.png")) == 60


def test_missing_pictures_are_counted_and_listed(moved):
    (moved / "here" / "a" / "00.png").unlink()
    done = connr("sort", "run", "sorted", "--pictures", "here")
    assert done.exit_code == 0, done.output
    assert "59 pictures linked" in done.output
    assert "1 are not there any more; see sorted/missing.csv" in done.output
    assert [row["path"] for row in table("sorted/missing.csv")] == ["a/00.png"]
    assert len(table("sorted/sorted.csv")) == 59


@pytest.mark.usefixtures("moved")
def test_a_long_name_keeps_its_ending():
    name = "é" * 120 + ".png"
    Path("here/a/00.png").rename(f"here/a/{name}")
    rows = Path("run/assignments.csv").read_text().replace("a/00.png", f"a/{name}")
    Path("run/assignments.csv").write_text(rows)
    assert connr("sort", "run", "sorted", "--pictures", "here").exit_code == 0
    (file,) = (row["file"] for row in table("sorted/sorted.csv") if row["path"] == f"a/{name}")
    assert file.endswith("é.png")
    assert Path("sorted", file).is_file()


def test_bad_input_is_refused_and_nothing_is_lost(moved):
    assert "holds no run" in refused("sort", "nothing", "sorted")
    assert "elsewhere, which does not exist; say where with --pictures" in refused("sort", "run", "sorted")
    assert "--pictures none is not a folder" in refused("sort", "run", "sorted", "--pictures", "none")
    assert "none of the 60 pictures" in refused("sort", "run", "sorted", "--pictures", "run")
    assert "exists and is not an empty folder" in refused("sort", "run", "here", "--pictures", "here")
    assert "lies among the pictures" in refused("sort", "run", "here/sorted", "--pictures", "here")
    assert "there is no folder none" in refused("sort", "run", "none/sorted", "--pictures", "here")
    config = json.loads(Path("run/config.json").read_text())
    for source, what in (("digits", "digits"), ("", "an array"), (str(moved / "images.npz"), "images.npz")):
        Path("run/config.json").write_text(json.dumps({**config, "data": source}))
        assert f"{what}, not on a folder" in refused("sort", "run", "sorted")
    for name in ("../../etc/passwd", "/etc/passwd"):
        Path("run/assignments.csv").write_text(f"path,cluster,distance,boundary_ratio,label\n{name},0,0.1,0.1,\n")
        assert "not as a run writes it" in refused("sort", "run", "sorted", "--pictures", "here")


def test_a_sort_that_is_cut_short_leaves_nothing(coloured_run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        sort.sort(RunFolder(coloured_run), Path("sorted"), copy=True)
    assert os.listdir() == []
