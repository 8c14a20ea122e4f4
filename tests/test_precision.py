"""`train.precision: 64-true`: everything a run computes after its inputs is in double precision."""

import csv
import shutil

import pytest
import torch
from conftest import COLOURED, TINY
from safetensors.torch import load_file

from connr import ConNR, export, recipe, runs
from connr.data import ImageSet, open_images
from connr.engine import checkpoint
from connr.errors import InputError
from connr.inference import assign
from connr.run_folder import RunFolder
from connr.schema import read_epochs

DOUBLE = "train.precision=64-true"
SHORT = (*TINY, "train.epochs=6", "train.group_from=0.5", "kmeans.restarts=3", DOUBLE)
FROZEN = (
    "backbone.model=torchvision:resnet18",
    "backbone.weights=random",
    "backbone.views=2",
    "data.size=32",
    "train.epochs=2",
    "train.batch_size=20",
    "framework.hidden=16",
    "framework.out=8",
    "feature_views.neighbours=5",
    DOUBLE,
)


def digits(n):
    whole = open_images("digits", 8, 1)
    return ImageSet(whole.images[:n], whole.names[:n], whole.labels[:n], whole.class_names)


def weights(folder):
    return load_file(folder.model)


def clusters(folder):
    with open(folder.assignments, newline="", encoding="utf-8") as file:
        return [(row["path"], row["cluster"]) for row in csv.DictReader(file)]


def test_two_processes_end_where_one_does(tmp_path):
    """All of `run.fit`, six epochs of both stages, after which single precision gives most images another cluster."""
    alone, pair = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "pair")
    for folder, devices in ((alone, 1), (pair, 2)):
        runs.fit(recipe.load("digits", SHORT), digits(390), folder, device="cpu", devices=devices)
    assert clusters(alone) == clusters(pair)
    one, two = weights(alone), weights(pair)
    assert {value.dtype for value in one.values()} == {torch.float64, torch.int64}  # the latter counts batches
    assert all(torch.allclose(value.double(), two[key].double(), rtol=0, atol=1e-9) for key, value in one.items())
    losses = [[record["loss"] for record in read_epochs(folder.events)] for folder in (alone, pair)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def test_it_starts_from_the_weights_of_single_precision(tiny):
    from connr import experiment

    single = experiment.build(tiny).state_dict()
    double = experiment.build(recipe.load(tiny, [DOUBLE])).state_dict()
    for key, value in single.items():
        assert double[key].dtype == (torch.float64 if value.is_floating_point() else value.dtype)
        assert torch.equal(double[key].to(value.dtype), value)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    runs.fit(recipe.load("digits", SHORT), digits(390), whole, device="cpu")
    shutil.copytree(whole.path, cut.path)
    for path in (*checkpoint.checkpoints(cut.checkpoints)[4:], cut.model, cut.assignments):
        path.unlink()
    runs.fit(recipe.load("digits", SHORT), digits(390), cut, resume=True, device="cpu")
    assert cut.model.read_bytes() == whole.model.read_bytes()
    assert cut.assignments.read_bytes() == whole.assignments.read_bytes()


@pytest.mark.parametrize(("name", "settings"), [("photos", (*COLOURED, DOUBLE)), ("pretrained", FROZEN)])
def test_a_saved_model_predicts_what_the_fit_assigned(name, settings, coloured, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("huggingface_hub")
    model = ConNR(3, recipe.load(name, settings), out=tmp_path / "run").fit(coloured)
    labels = model.labels_.tolist()
    folder = RunFolder(tmp_path / "run")
    heads = {value.dtype for key, value in weights(folder).items() if not key.startswith("representation.0.")}
    assert heads == {torch.float64, torch.int64}
    assert ConNR.load(tmp_path / "run").predict(coloured).tolist() == labels
    rows, _ = assign(*runs.load_model(folder), str(coloured))
    assert [cluster for part in rows for cluster in part.assigned.clusters.tolist()] == labels
    export.export(folder, "onnx", tmp_path / "model.onnx")  # compared with torch as it is written
    export.export(folder, "hub", tmp_path / "hub")
    from connr.export.model_repository import HubModel

    pixels = open_images(coloured, model.recipe_.data.size, 3).images.permute(0, 2, 3, 1).contiguous()
    features, found, _ = HubModel.from_pretrained(tmp_path / "hub")(pixels)
    assert features.dtype == torch.float32
    assert found.tolist() == labels


def test_a_device_without_double_precision_is_refused(tiny, few_digits, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(InputError, match="64-true: the device mps has no double precision; use the device cpu"):
        runs.fit(recipe.load(tiny, [DOUBLE]), few_digits, RunFolder(tmp_path / "run"), device="mps")
