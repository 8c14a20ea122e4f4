"""Run folders of strangers: nothing outside them is written or removed, and nothing is fetched that they name."""

import json
import shutil
import socket

import pytest
import torch
from conftest import COLOURED
from typer.testing import CliRunner

from connr import ConNR, recipe, runs
from connr.cli import app
from connr.errors import InputError
from connr.networks import rebuild
from connr.run_folder import RunFolder


def connr(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def folder(coloured_run, tmp_path):
    shutil.copytree(coloured_run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def contacted(monkeypatch):
    """The machines that were looked for; none is found."""
    asked = []

    def getaddrinfo(host, *_, **__):
        asked.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def tampered(folder, **changes):
    config = json.loads(folder.config.read_text())
    folder.config.write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("name", ["checkpoints", "cache", "log"])
def test_a_link_out_of_the_folder_is_refused_and_its_target_left_alone(folder, coloured, tmp_path, name):
    target = tmp_path / "precious"
    target.mkdir()
    (target / ".letter.tmp").write_text("dear")
    if name == "checkpoints":
        for path in folder.checkpoints.iterdir():
            path.rename(target / path.name)
        folder.checkpoints.rmdir()
    (folder.path / name).symlink_to(target)
    before = sorted(path.name for path in target.iterdir())
    done = connr("fit", coloured, "--out", folder.path, "--resume")
    assert done.exit_code == 2, done.output
    assert f"{folder.path / name} is a symbolic link" in done.stderr
    assert sorted(path.name for path in target.iterdir()) == before


def test_a_lock_that_is_a_link_is_refused(folder, coloured, tmp_path):
    (tmp_path / "precious").write_text("dear")
    (folder.path / ".lock").unlink(missing_ok=True)
    (folder.path / ".lock").symlink_to(tmp_path / "precious")
    done = connr("fit", coloured, "--out", folder.path, "--resume")
    assert done.exit_code == 2, done.output
    assert ".lock is a symbolic link" in done.stderr
    assert (tmp_path / "precious").read_text() == "dear"


def test_left_overs_that_are_links_go_and_their_targets_stay(folder, coloured, tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / "letter").write_text("dear")
    (folder.path / ".x.tmp").symlink_to(target)
    (folder.checkpoints / ".y.tmp").symlink_to(target / "letter")
    done = connr("fit", coloured, "--out", folder.path, "--resume")
    assert done.exit_code == 0, done.output
    assert not (folder.path / ".x.tmp").is_symlink()
    assert (target / "letter").read_text() == "dear"


@pytest.mark.parametrize(
    "made",
    [
        {"kind": "torchvision", "name": "fcn_resnet50"},  # would fetch the weights of its own backbone
        {"kind": "torchvision", "name": ["resnet18"]},
        {"kind": "torchvision"},
        {"kind": "timm", "name": "resnet10t", "arguments": {"checkpoint_path": "weights.pth"}},
        {"kind": "timm", "name": "resnet10t", "arguments": {"pretrained_cfg": {"url": "https://example.org/x.pth"}}},
        {"kind": "timm", "name": "resnet10t", "arguments": {"cache_dir": "elsewhere"}},
        {"kind": "timm", "name": "resnet10t", "arguments": {"in_chans": {"a": 1}}},
        {"kind": "timm", "name": "resnet10t", "arguments": {"depth": 10**9}},
        {"kind": "timm", "name": "resnet10t", "arguments": [1]},
        {"kind": "timm", "name": "hf-hub:some/network", "arguments": {}},
        {"kind": "timm", "name": "local-dir:.", "arguments": {}},
        {"kind": "timm", "name": "resnet10t", "arguments": {"embed_dim": 7}},  # it knows no such argument
        {"kind": "connr", "backbone": {"name": "pretrained", "model": "timm:resnet10t"}, "channels": 3},
        {"kind": "connr", "backbone": None, "channels": 3},
        {"kind": "connr", "backbone": {"name": "small"}, "channels": 10**9},
        {"kind": "module", "name": "os.system"},
    ],
    ids=str,
)
def test_a_backbone_that_is_not_allowed_is_refused_without_a_file_or_a_network(folder, contacted, monkeypatch, made):
    if made["kind"] == "timm":
        pytest.importorskip("timm")
    opened, real = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: (opened.append(a), real(*a, **k))[1])
    with pytest.raises(InputError):
        rebuild(made)
    tampered(folder, backbone=made)
    with pytest.raises(InputError):
        runs.load_model(folder, "cpu")
    done = connr("predict", folder.path, "digits")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("connr: ")
    assert (contacted, opened) == ([], [])


def test_networks_that_fits_do_write_are_still_made():
    assert rebuild({"kind": "torchvision", "name": "resnet18"})
    pytest.importorskip("timm")
    assert rebuild({"kind": "timm", "name": "vit_tiny_patch16_224", "arguments": {"img_size": 64}})


def test_a_hub_folder_of_a_stranger_names_no_file_and_no_place(tmp_path, contacted):
    pytest.importorskip("timm")
    from connr.networks import open_backbone

    for wrong in ({"architecture": "hf-hub:a/b"}, {"architecture": "resnet10t", "model_args": {"checkpoint_path": "x"}}):
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {}, **wrong}))
        with pytest.raises(InputError, match=r"has no network|is not allowed"):
            open_backbone(f"hub:{tmp_path}", "random", 64)
    assert contacted == []


@pytest.mark.parametrize(
    "command",
    [
        ["report", "RUN"],
        ["neighbours", "RUN", "--image", "a/00.png", "--count", "3"],
        ["evaluate", "RUN"],
        ["sort", "RUN", "sorted"],
    ],
    ids=lambda command: command[0],
)
def test_data_on_another_machine_is_not_opened_because_a_folder_says_so(folder, contacted, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    tampered(folder, data="hf:some/data")
    done = connr(*(folder.path if word == "RUN" else word for word in command))
    assert done.exit_code == 2, done.output
    assert contacted == []
    if command[0] in ("report", "neighbours"):
        assert f"name it to open it: connr report {folder.path} hf:some/data" in done.stderr


def test_an_export_is_checked_on_what_is_on_this_machine(folder, contacted, tmp_path):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    tampered(folder, data="hf:some/data")
    done = connr("export", folder.path, "--to", "onnx", "--out", tmp_path / "x.onnx")
    assert done.exit_code == 0, done.output
    assert contacted == []


def test_a_resumed_recipe_downloads_nothing_by_itself(coloured, tmp_path, contacted):
    folder = RunFolder(tmp_path / "run")
    settings = [*COLOURED[:2], "backbone.model=torchvision:mobilenet_v3_small", "clusters=3"]
    folder.checkpoints.mkdir(parents=True)
    folder.recipe.write_text(recipe.load("pretrained", settings).to_yaml())
    done = connr("fit", coloured, "--out", folder.path, "--resume")
    assert done.exit_code == 2, done.output
    assert "add --set backbone.model=torchvision:mobilenet_v3_small to download them" in done.stderr
    assert contacted == []
    asked = connr("fit", coloured, "--out", folder.path, "--resume", "--set", "backbone.model=torchvision:mobilenet_v3_small")
    assert asked.exit_code == 2
    assert contacted == ["download.pytorch.org"]


def test_a_run_of_ones_own_is_not_disturbed(folder, coloured):
    assert len(ConNR.load(folder.path).predict(coloured)) == 60
    assert connr("report", folder.path).exit_code == 0
