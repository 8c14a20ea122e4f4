"""Pretrained backbones in a run: frozen, with what they give kept in a file, or trained further; by command and in Python."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models
from typer.testing import CliRunner

from connr import ConNR, experiment, frozen, networks, pretrained, recipe, runs
from connr.cli import app
from connr.data import open_for, open_images
from connr.data.feature_rows import open_features
from connr.engine import Callback, optimizers
from connr.errors import InputError, Stopped
from connr.run_folder import RunFolder
from connr.views import Augment

SMALL = [
    "backbone.model=torchvision:resnet18",
    "backbone.weights=random",
    "backbone.views=2",
    "data.size=32",
    "train.epochs=3",
    "train.batch_size=20",
    "framework.hidden=16",
    "framework.out=8",
    "feature_views.neighbours=5",
]
AS_OPTIONS = [word for setting in SMALL for word in ("--set", setting)]


def small(*settings, **changes):
    return recipe.load("pretrained", [*SMALL, *settings], **{"clusters": 3, **changes})


def command(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done.output


class Heard(Callback):
    """What was told of images that a backbone went through; raises `fault` once `after` of them are done."""

    def __init__(self, after=None, fault=KeyboardInterrupt):
        self.done, self.after, self.fault = [], after, fault

    def on_progress(self, done, of, waiting):
        self.done.append(done)
        if self.after is not None and done >= self.after:
            raise self.fault


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (150, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return open_images(pixels.numpy(), 16, 3)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return networks.own(network, 16, 3)


def cached(backbone, images, told=None, name="x"):
    augment = Augment([0.5] * 3, [0.2] * 3, crop_scale=(0.3, 1), flip=0.5)
    return frozen.cached(backbone, images, augment, 2, 7, name, torch.device("cpu"), told or Callback())


# The file


def test_rows_are_the_backbones_features_of_the_image_and_of_random_views(backbone, images):
    rows = cached(backbone, images)
    assert (rows.shape, rows.dtype) == ((150, 3, 4), torch.float16)
    for i in (0, 63, 64, 149):
        pixels = (images.images[i].double() / 255 - 0.5) / 0.2
        expected = backbone.network.double()(pixels.unsqueeze(0)).squeeze(0)
        assert torch.allclose(rows[i][0].double(), expected, atol=1e-3)
    whole = rows[:].float()
    assert (whole[:, 0] - whole[:, 1]).abs().mean() > 1e-3
    assert (whole[:, 1] - whole[:, 2]).abs().mean() > 1e-3


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_stopped_on_the_way_it_goes_on_and_ends_with_the_same_bytes(backbone, images, fault, monkeypatch):
    monkeypatch.setattr(frozen, "SAVED_EVERY", -1.0)
    with pytest.raises(fault):
        cached(backbone, images, Heard(128, fault))
    part = frozen.place() / "x.part"
    assert part.stat().st_size == 128 * 3 * 4 * 2
    with open(part, "ab") as file:
        file.write(b"torn")
    heard = Heard()
    found = cached(backbone, images, heard)
    assert heard.done == [128, 150]
    assert torch.equal(found[:], cached(backbone, images, name="other")[:])
    assert sorted(path.name for path in frozen.place().iterdir() if path.suffix != ".lock") == ["other.features", "x.features"]
    again = Heard()
    cached(backbone, images, again)
    assert again.done == []


def test_what_was_written_but_not_known_to_be_on_the_disk_is_made_again(backbone, images, monkeypatch):
    monkeypatch.setattr(frozen, "SAVED_EVERY", float("inf"))
    with pytest.raises(KeyboardInterrupt):
        cached(backbone, images, Heard(128))
    heard = Heard()
    cached(backbone, images, heard)
    assert heard.done[0] == 0


def test_the_key_is_of_all_that_the_rows_depend_on(backbone):
    def key(**other):
        return frozen.key(
            **{"backbone": backbone, "fingerprint": "a", "augmentation": {"flip": 0.5}, "views": 2, "seed": 0, **other}
        )

    torch.manual_seed(1)
    weights = networks.own(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16, 3)
    others = [{"fingerprint": "b"}, {"augmentation": {"flip": 0.4}}, {"views": 3}, {"seed": 1}, {"backbone": weights}]
    assert len({key(), *(key(**other) for other in others)}) == 6
    assert key() == key()


def test_features_that_half_precision_cannot_hold_are_an_error(images):
    class Huge(nn.Module):
        def forward(self, pixels):
            return pixels.mean(dim=(2, 3)).abs() * 1e6 + 1e5

    with pytest.raises(ArithmeticError, match="images 0 to 63 that half precision cannot hold"):
        cached(networks.own(Huge(), 16, 3), images)


@pytest.mark.slow
def test_two_processes_that_want_the_same_compute_it_once(coloured, tmp_path):
    words = [sys.executable, "-m", "connr", "fit", str(coloured), "--clusters", "3", "--recipe", "pretrained", *AS_OPTIONS]
    both = [
        subprocess.Popen([*words, "--out", str(tmp_path / name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in ("a", "b")
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(list(frozen.place().glob("*.features"))) == 1
    assert (tmp_path / "a" / "assignments.csv").read_bytes() == (tmp_path / "b" / "assignments.csv").read_bytes()


# Runs


def test_a_frozen_run_is_saved_whole_and_answers_as_it_did(coloured, tmp_path):
    out, r = RunFolder(tmp_path / "run"), small()
    images = open_for(r, coloured)
    fitted = runs.fit(r, images, out)
    assert fitted.recipe.data.features == 512
    again, model = runs.load_model(out)
    assert again == fitted.recipe
    assert torch.equal(model.assign(images.images).clusters, fitted.assigned.clusters)
    assert torch.allclose(model.assign(images.images).distances, fitted.assigned.distances, atol=1e-6)
    assert torch.allclose(
        model.from_backbone(model.through_backbone(images.images)), model.transform(images.images), atol=1e-5
    )
    for to, name in (("onnx", "model.onnx"), ("hub", "hub"), ("safetensors", "lean")):
        command("export", out.path, "--to", to, "--out", tmp_path / name)
    assert np.array_equal(ConNR.load(tmp_path / "lean").predict(coloured), fitted.assigned.clusters)
    config = json.loads(out.config.read_text())
    assert config["backbone"] == {"kind": "torchvision", "name": "resnet18"}
    assert config["mean"] == [0.485, 0.456, 0.406]


def test_another_number_of_clusters_takes_what_is_there(coloured):
    r = small()
    images = open_for(r, coloured)
    first, second, third = Heard(), Heard(), Heard()
    runs.fit(r, images, callback=first)
    fitted = runs.fit(small(clusters=4), images, callback=second)
    runs.fit(small("augment.flip=0.1"), images, callback=third)
    assert (first.done, second.done, third.done) == ([0, 60], [], [0, 60])
    assert fitted.model.assigner.centroids.shape[0] == 4


def test_a_frozen_run_is_resumed_to_the_same_end(coloured, tmp_path):
    class Stops(Callback):
        def on_epoch_end(self, record):
            if record["epoch"] == 2:
                raise Stopped

    out, r = RunFolder(tmp_path / "run"), small("train.keep_checkpoints=0")
    images = open_for(r, coloured)
    whole = runs.fit(r, images)
    with pytest.raises(Stopped):
        runs.fit(r, images, out, callback=Stops())
    resumed = runs.fit(r, images, out, resume=True)
    assert torch.equal(resumed.model.assigner.centroids, whole.model.assigner.centroids)
    assert torch.equal(resumed.assigned.clusters, whole.assigned.clusters)


def test_the_heads_train_on_rows_that_lie_in_a_file_as_on_those_in_memory(coloured):
    r = small()
    images = open_for(r, coloured)
    one, other = runs.fit(r, images), runs.fit(small("data.resident_gib=0"), images)
    assert torch.equal(one.model.assigner.centroids, other.model.assigner.centroids)


def test_trained_further_its_layers_have_a_learning_rate_each(coloured, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), weights)
    r = small("backbone.frozen=false", f"backbone.weights={weights}", "backbone.first_layers=0.01", "train.base_lr=0.05")
    images = open_for(r, coloured)
    method, plan = experiment.build(r, pretrained.backbone_of(r).network), experiment.plan_for(r, [0.5] * 3, [0.5] * 3)
    groups = optimizers.optimizer_for(method, plan.optimizer, plan.depths).param_groups
    assert [round(group["factor"], 4) for group in groups] == [0.01, 0.0251, 0.0631, 0.1585, 0.3981, 1.0, 1.0, 1.0]
    assert [group["role"] for group in groups] == ["encoder"] * 7 + ["predictor"]
    trained = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in method.parameters() if p.requires_grad}
    fitted = runs.fit(r, images, RunFolder(tmp_path / "run"))
    weights.unlink()
    _, model = runs.load_model(RunFolder(tmp_path / "run"))
    assert torch.equal(model.assign(images.images).clusters, fitted.assigned.clusters)
    assert not list(tmp_path.glob("connr-cache/*.features"))


class Own(nn.Module):
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())

    def forward(self, images):
        return self.layers(images)


def test_a_module_of_ones_own(coloured, tmp_path):
    module = Own()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    settings = [setting for setting in SMALL if not setting.startswith(("backbone.model", "backbone.weights"))]
    model = ConNR(3, recipe.load("pretrained", settings), backbone=module).fit(coloured)
    assert model.model_.mean == [0.5, 0.5, 0.5]
    assert np.array_equal(model.predict(coloured), model.labels_)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    model.save(tmp_path / "model")
    assert np.array_equal(ConNR.load(tmp_path / "model", backbone=Own()).predict(coloured), model.labels_)
    with pytest.raises(InputError, match=r"was a module of your own, test_frozen.Own: in Python, ConNR.load"):
        ConNR.load(tmp_path / "model")
    with pytest.raises(InputError, match="needs a recipe with a pretrained one"):
        ConNR(3, "photos", backbone=module).fit(coloured)


# By command


def test_photos_takes_a_backbone_that_is_at_hand_and_else_says_what_to_expect(coloured, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    alone = pretrained.chosen("photos", ["train.epochs=3"], clusters=3)
    assert alone.backbone.name == "small"
    said = pretrained.describe_backbone(alone)
    assert "No pretrained backbone is cached (timm:" in said
    assert "colour and shape more than of meaning" in said
    place = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    torch.save(models.resnet18().state_dict(), place)
    found = pretrained.chosen("photos", ["train.epochs=3"], clusters=3)
    assert (found.backbone.model, found.backbone.frozen, found.train.epochs) == ("torchvision:resnet18", True, 3)
    assert (found.data.size, found.data.interpolation) == (224, "bilinear")
    assert str(place) in pretrained.describe_backbone(found)
    assert pretrained.chosen("photos", ["backbone.width=8"], clusters=3).backbone.name == "small"
    words = [word for word in AS_OPTIONS if "backbone" not in word and word != "--set"]
    options = [word for setting in words for word in ("--set", setting)]
    said = command("fit", coloured, "--clusters", 3, "--out", tmp_path / "run", *options)
    assert f"Backbone: torchvision:resnet18, frozen; weights: {place}" in re.sub(r"\s+", " ", said)
    place.unlink()
    command("predict", tmp_path / "run", coloured, "--out", tmp_path / "p.csv")  # the run has the weights itself


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_features_are_written_fitted_predicted_reported_exported(coloured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = ["--backbone", "torchvision:resnet18", "--weights", "random", "--size", 32]
    for name in ("f.npz", "f.npy", "f.parquet"):
        said = command("features", coloured, *backbone, "--labels-from-folders", "--out", name)
        assert f"60 rows of 512 features: {name}" in said
    whole = open_features("f.npz")
    assert whole.names == open_images(coloured, 16, 3).names
    assert whole.class_names == open_features("f.parquet").class_names == ["a", "b"]
    assert torch.equal(whole.labels, open_features("f.parquet").labels)
    for name in ("f.npy", "f.parquet"):
        assert torch.equal(open_features(name).images, whole.images)
    refused = CliRunner().invoke(app, ["features", str(coloured), *map(str, backbone), "--out", "f.npz"])
    assert (refused.exit_code, "add --overwrite" in refused.output) == (2, True)

    short = ["--set", "train.epochs=3", "--set", "train.batch_size=20", "--set", "backbone.widths=[8]"]
    said = command("fit", "f.npz", "--clusters", 3, *short)
    assert "60 rows of features into 3 clusters" in said
    command("predict", "runs/f-1", "f.parquet", "--out", "p.csv")
    fitted, predicted = rows_of("runs/f-1/assignments.csv"), rows_of("p.csv")
    assert [row["path"] for row in predicted] == whole.names
    for one, other in zip(fitted, predicted, strict=True):
        assert (one["path"], one["cluster"], one["distance"]) == (other["path"], other["cluster"], other["distance"])
    shutil.rmtree("runs/f-1/log", ignore_errors=True)
    command("report", "runs/f-1")
    page = (tmp_path / "runs/f-1/report.html").read_text()
    for part in (
        "60 rows in 3 clusters",
        "k-means on the features",
        "Gaussian mixture on their PCA",
        "of 512 numbers",
        "among all 60 rows",
    ):
        assert part in page
    assert whole.names[0] in page
    assert "data:image/webp" not in page
    assert "n 60" in command("evaluate", "runs/f-1", "f.npz")
    command("export", "runs/f-1", "--to", "onnx", "--out", "f.onnx")
    command("export", "runs/f-1", "--to", "hub", "--out", "hub")
    assert np.array_equal(ConNR.load("hub").predict("f.npy"), [int(row["cluster"]) for row in predicted])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "f.npz", "--clusters", "3", "--recipe", "photos"], "holds rows of features, but images are expected"),
        (["fit", "digits", "--clusters", "3", "--recipe", "features"], "does not exist: features are an .npz"),
        (["fit", "f.npz", "--clusters", "3", "--labels-from-folders"], "labels cannot be read from folders"),
        (["fit", "f.npz", "--clusters", "31"], "clusters=31 is more than the 30"),
        (["features", "digits", "--backbone", "resnet", "--out", "g.npz"], "should read torchvision:NAME"),
        (["features", "digits", "--backbone", "torchvision:resnet18", "--out", "g.txt"], "should end in .npz"),
        (["predict", "run", "narrow.npz"], "have 4 columns, but the model was fitted on 5"),
        (["predict", "run", "digits"], "does not exist"),
        (["neighbours", "run", "--image", "0"], "there are no pictures to show neighbours of"),
        (["sort", "run", "sorted"], "not on a folder"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(30, 5))
    np.savez("f.npz", features=rows)
    np.savez("narrow.npz", features=rows[:, :4])
    if words[1] == "run":
        ConNR(3, recipe.load("features", ["train.epochs=1", "backbone.widths=[4]"]), out="run").fit("f.npz")
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, message in re.sub(r"\s+", " ", done.output)) == (2, True), done.output


def test_pictures_come_by_the_backbones_interpolation():
    pytest.importorskip("timm")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    one, other = (
        open_for(recipe.load("pretrained", ["data.size=16", f"data.interpolation={name}"], clusters=2), pixels).images
        for name in ("bilinear", "bicubic")
    )
    assert not torch.equal(one, other)
    settled = pretrained.resolve_input(recipe.load("pretrained", ["backbone.model=timm:vit_tiny_patch16_224"]))
    assert settled.data.square == (224, 3, "bicubic")
