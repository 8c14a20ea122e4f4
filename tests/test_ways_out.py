"""Faults that showed only at the end, without a name, or with a way out that does not lead out."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from connr import frozen
from connr.cli import app
from connr.cli.app import error_message
from connr.errors import InputError
from connr.run_folder import check_writable, replacing


def connr(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ["features", "DATA", "--backbone", "run:RUN", "--out", "/proc/x.npz"],
        ["export", "RUN", "--to", "onnx", "--out", "/proc/x.onnx"],
        ["export", "RUN", "--to", "safetensors", "--out", "/proc/x"],
        ["predict", "RUN", "DATA", "--out", "/proc/x.csv"],
        ["sort", "RUN", "/proc/x"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[2:4]),
)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(coloured, coloured_run, monkeypatch, arguments):
    """Root may write anywhere but in a file system of the kernel's own."""
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc")
    worked = []
    for place in ("connr.runs.load_model", "connr.inference.embedding.embed"):
        monkeypatch.setattr(place, lambda *a, **k: worked.append(a))
    words = {"DATA": str(coloured), "RUN": str(coloured_run), "run:RUN": f"run:{coloured_run}"}
    done = connr(*(words.get(word, word) for word in arguments))
    assert done.exit_code == 2, done.output
    assert "cannot be written: " in done.stderr
    assert worked == []


def test_an_export_into_a_folder_that_is_not_there_is_refused(coloured_run, tmp_path):
    done = connr("export", coloured_run, "--to", "onnx", "--out", tmp_path / "nowhere" / "x.onnx")
    assert done.exit_code == 2, done.output
    assert "there is no folder" in done.stderr


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_names_that_are_not_utf8_are_refused_by_name(coloured, coloured_run, tmp_path, ending):
    done = connr("predict", coloured_run, coloured, "--out", tmp_path / f"n\udcff.{ending}")
    assert done.exit_code == 2, done.output
    assert "is not UTF-8; choose another --out" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_its_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as fault, replacing(tmp_path / "x.csv"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (
        error_message(fault.value)
        == f"{tmp_path / 'x.csv'}: No space left on device; free some space there, or write elsewhere."
    )
    assert list(tmp_path.iterdir()) == []


def test_trying_a_place_leaves_nothing_and_takes_nothing(tmp_path):
    (tmp_path / "x.csv").write_text("mine")
    check_writable(tmp_path / "x.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "mine"


def test_demo_does_not_name_an_option_that_it_has_not(coloured_run):
    done = connr("demo", "--out", coloured_run)
    assert done.exit_code == 2
    assert done.stderr.strip().endswith("holds a run already; choose another --out.")


def test_a_named_data_set_is_checked_where_it_is_said_to_lie(tmp_path, monkeypatch):
    monkeypatch.delenv("CONNR_DATA", raising=False)
    assert "write cifar10:FOLDER" in connr("data", "check", "cifar10").stderr
    done = connr("data", "check", f"cifar10:{tmp_path}")
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith(f"cifar10 in {tmp_path}: 0 images")


def test_endings_in_capitals_are_known(coloured_run, tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 16, 16, 3), np.uint8))
    shutil.move(tmp_path / "x.npz", tmp_path / "X.NPZ")
    done = connr("predict", coloured_run, tmp_path / "X.NPZ")
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 4


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    import pwd

    def nobody(_):
        raise KeyError

    for name in ("HOME", "CONNR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(InputError, match=r"no home folder .*set CONNR_CACHE"):
        frozen.place()
