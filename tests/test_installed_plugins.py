"""A package outside connr registers plug-ins by its entry points: built as a wheel, installed, run."""

import json
import subprocess
import sys

import pytest
from test_toy_method import TOY, clusters, connr, environment

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "outside"
version = "1"
[project.entry-points."connr.methods"]
outside = "outside.method"
[project.entry-points."connr.data"]
blobs = "outside.data"
[project.entry-points."connr.networks"]
flat = "outside.network"
"""
DATA = """
import torch
from connr.data.image_set import ImageSet
from connr.data.source import Source, register

@register("blobs")
class Blobs(Source):
    form = "blobs:N"
    def recognises(self, data):
        return str(data).startswith("blobs:")
    def open(self, data, reading):
        n = int(str(data).partition(":")[2])
        labels = torch.arange(n) % 2
        images = (labels * 200).reshape(n, 1, 1, 1).expand(n, *reading.square.shape).to(torch.uint8).clone()
        images[:, :, 0, 0] = torch.arange(n).reshape(n, 1)
        return ImageSet(images, [str(i) for i in range(n)], labels, ["dark", "light"])
"""
NETWORK = """
from typing import Literal
from torch import nn
from connr.recipe import BackboneConfig
from connr.registry import BACKBONES

@BACKBONES.register("flat")
class Flat(BackboneConfig):
    name: Literal["flat"] = "flat"
    def build(self, channels):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the wheel of the package is installed in."""
    pytest.importorskip("setuptools")
    root = tmp_path_factory.mktemp("outside")
    package = root / "source" / "outside"
    package.mkdir(parents=True)
    (root / "source" / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "method.py").write_text(TOY.read_text().replace('"toy"', '"outside"'))
    (package / "data.py").write_text(DATA)
    (package / "network.py").write_text(NETWORK)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-cache-dir"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(root), str(root / "source")]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = root.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(root / "site"), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root / "site"


def test_methods_lists_it(site):
    found = {each["name"]: each for each in json.loads(connr("methods", "--json", plugin=None, path=[site]))}
    assert found["outside"]["module"] == "outside.method"
    assert found["outside"]["phases"] == ["contrast"]


def test_fit_and_predict_run_its_method_data_and_backbone(site, tmp_path):
    changes = [
        "method=outside",
        "backbone=flat",
        "data.size=8",
        "data.channels=1",
        "train.epochs=1",
        "augment.crop_scale=null",
    ]
    settings = [part for each in changes for part in ("--set", each)]
    out = tmp_path / "run"
    connr("fit", "blobs:64", "--clusters", 2, "--recipe", "photos", *settings, "--out", out, plugin=None, path=[site])
    predicted = connr("predict", out, "blobs:64", plugin=None, path=[site])
    assert clusters(predicted) == clusters((out / "assignments.csv").read_text())
    assert "name: flat" in (out / "recipe.yaml").read_text()


def test_a_package_that_cannot_be_imported_is_named(tmp_path):
    folder = tmp_path / "broken-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[connr.methods]\nbroken = no_such_module\n")
    line = [sys.executable, "-m", "connr", "methods"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment([tmp_path]))
    assert done.returncode == 2
    assert "the method 'broken' of package broken cannot be imported" in done.stderr
