"""The paper's data sets by name, on small files in the real format; CIFAR-10 also on its real pixels where they are."""

import os
import pickle
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from processes import run_in_processes
from real_formats import SUPERCLASSES, write_cifar, write_class_folders, write_imagenet, write_stl, write_tiny
from torchvision.datasets import CIFAR10, STL10
from typer.testing import CliRunner

from connr import ConNR, experiment, recipe, runs
from connr.cli import app
from connr.clustering.kmeans import kmeans
from connr.data import ImageSet, open_images
from connr.data.named import DATASETS, NAMED, dataset_name
from connr.distributed import SINGLE_PROCESS, ProcessGroup
from connr.engine import Callback
from connr.engine.whole_set import cluster, renumbered
from connr.errors import InputError
from connr.randomness import stream

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pixels(n, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def connr(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_every_named_data_set_has_a_recipe_that_knows_it():
    assert set(NAMED) <= set(recipe.names())
    for name, known in DATASETS.items():
        r = recipe.load(name)
        assert (r.clusters, r.data.images) == (known.classes, known.images)


def test_cifar10_is_train_and_test_as_torchvision_reads_them(tmp_path):
    images, labels = pixels(60), np.arange(60) % 10
    write_cifar(tmp_path, "cifar10", images, labels, CLASSES)
    found = open_images(f"cifar10:{tmp_path}", 32, 3)
    assert torch.equal(found.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert found.labels.tolist() == labels.tolist()
    assert found.class_names == CLASSES
    assert found.source == f"cifar10:{tmp_path.resolve()}"

    class Unchecked(CIFAR10):
        def _check_integrity(self):
            return True

        def _load_meta(self):
            self.classes = CLASSES

    theirs = np.concatenate([Unchecked(tmp_path, train=train).data for train in (True, False)])
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), theirs)


def test_cifar20_takes_the_superclasses(tmp_path):
    images, labels = pixels(40), np.arange(40) % 20
    write_cifar(tmp_path, "cifar20", images, labels, SUPERCLASSES)
    found = open_images(f"cifar20:{tmp_path}", 32, 3)
    assert len(found) == 40
    assert found.labels.tolist() == labels.tolist()
    assert found.class_names == SUPERCLASSES


def test_a_pickle_may_make_arrays_and_nothing_else(tmp_path):
    write_cifar(tmp_path, "cifar10", pixels(12), np.arange(12) % 10, CLASSES)
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {touched}",)

    victim = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    for evil in (Evil(), {"data": Evil(), "labels": [1]}, {"data": np.array([Evil()], dtype=object), "labels": [1]}):
        victim.write_bytes(pickle.dumps(evil, protocol=2))
        with pytest.raises(InputError, match=r"data_batch_2 uses (posix|nt)\.system, which no array needs"):
            open_images(f"cifar10:{tmp_path}", 32, 3)
    assert not touched.exists()
    for broken in (b"", b"no pickle", pickle.dumps([1], protocol=2), pickle.dumps({"data": pixels(2)}, protocol=2)):
        victim.write_bytes(broken)
        with pytest.raises(InputError, match=r"cifar10 is incomplete in .*data_batch_2.*connr data check cifar10 --root"):
            open_images(f"cifar10:{tmp_path}", 32, 3)


def test_a_pickle_of_python_3_is_read_too(tmp_path):
    images = pixels(12)
    write_cifar(tmp_path, "cifar10", images, np.arange(12) % 10, CLASSES)
    data = images[:2].transpose(0, 3, 1, 2).reshape(2, -1).copy()
    for protocol in (2, 4):
        content = pickle.dumps({"data": data, "labels": [0, 1]}, protocol=protocol)
        (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
        found = open_images(f"cifar10:{tmp_path}", 32, 3)
        assert torch.equal(found.images, torch.from_numpy(images).permute(0, 3, 1, 2))


def test_stl10_is_trained_on_all_and_scored_on_the_labelled(tmp_path):
    parts = {part: pixels(n, 96, seed) for seed, (part, n) in enumerate({"train": 20, "test": 30, "unlabeled": 50}.items())}
    labels = {"train": np.arange(20) % 10, "test": np.arange(30) % 10}
    write_stl(tmp_path, {part: (images, labels.get(part)) for part, images in parts.items()})
    found = open_images(f"stl10:{tmp_path}", 96, 3)
    expected = np.concatenate(list(parts.values()))
    assert torch.equal(found.images, torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert found.labels.tolist() == [*(np.arange(20) % 10), *(np.arange(30) % 10), *[-1] * 50]
    theirs = STL10.__dict__["_STL10__loadfile"](
        type("Loader", (), {"root": str(tmp_path), "base_folder": "stl10_binary"})(), "train_X.bin", "train_y.bin"
    )
    assert found.clustered == 50
    assert np.array_equal(found.images[:20].numpy(), theirs[0])
    assert np.array_equal(found.labels[:20].numpy(), theirs[1])
    assert open_images(f"stl10:{tmp_path}", 32, 1).images.shape == (100, 1, 32, 32)
    (tmp_path / "stl10_binary" / "unlabeled_X.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(InputError, match=r"unlabeled_X\.bin does not hold a whole number of images"):
        open_images(f"stl10:{tmp_path}", 96, 3)


def split_of_digits(count, clustered):
    whole = open_images("digits", 8, 1)
    labels = whole.labels[:count].clone()
    labels[clustered or count :] = -1
    return ImageSet(whole.images[:count], whole.names[:count], labels, whole.class_names, clustered=clustered)


def test_a_split_is_clustered_and_scored_while_all_is_trained_on(tiny):
    """k-means of the features of the split alone; the others have the nearest of its centroids, also in the filter."""
    images, done = split_of_digits(200, 80), []

    class Ears(Callback):
        def on_epoch_end(self, record):
            done.append(record)

    fitted = runs.fit(tiny, images, device="cpu", callback=Ears())
    model, settings = fitted.model, tiny.kmeans.model_dump()
    split, rest = model.transform(images.images[:80]), model.transform(images.images[80:])
    expected, _ = renumbered(kmeans(split, 10, generator=stream(tiny.seed, "kmeans", tiny.train.epochs), **settings))
    assert torch.allclose(model.assigner.centroids, expected.centroids, atol=1e-5)
    assert done[-1]["inertia"] == pytest.approx(expected.inertia, rel=1e-4)
    assert sum(done[-1]["cluster_sizes"]) == done[-1]["n"] == 80
    nearest = torch.cat([expected.assignments, torch.cdist(rest, expected.centroids).argmin(dim=1)])
    assert (fitted.assigned.clusters == nearest).float().mean() > 0.98  # but for ties
    whole = runs.fit(tiny, replace(images, clustered=None), device="cpu")
    assert not torch.allclose(whole.model.assigner.centroids, expected.centroids, atol=1e-3)
    weights = [next(fit.model.representation.parameters()) for fit in (fitted, whole)]
    assert len(done) == tiny.train.epochs
    assert done[0]["loss"] == whole.history[0]["loss"]  # stage 1 is the same: all images are trained on
    assert not torch.equal(*weights)  # stage 2 is not
    with pytest.raises(InputError, match="clusters=10 is more than the 9 images that are clustered"):
        runs.fit(tiny, split_of_digits(200, 9), device="cpu")


def clustered_by(ranks):
    r = recipe.load("digits", TINY)
    images = split_of_digits(203, 81)
    plan = replace(experiment.plan_for(r, *images.statistics()), clustered=81)
    return cluster(experiment.build(r), images.images, plan, 3, torch.device("cpu"), ranks or ProcessGroup()).clusters


def clustered_on_rank(*_):
    found = clustered_by(None)
    return found.centroids, found.assignments


def test_a_split_over_ranks_is_that_of_one_process():
    alone = clustered_by(SINGLE_PROCESS)
    assert alone.assignments.shape == (203,)
    for centroids, assignments in run_in_processes(2, clustered_on_rank):
        assert torch.allclose(centroids, alone.centroids, atol=1e-5)
        assert torch.equal(assignments, alone.assignments)


@pytest.mark.parametrize(("name", "classes"), [("imagenet10", 10), ("imagenet-dogs", 15)])
@pytest.mark.parametrize("place", ["train", "ILSVRC/Data/CLS-LOC/train", "."])
def test_subsets_of_imagenet_by_their_wordnet_ids(tmp_path, name, classes, place):
    write_imagenet(tmp_path / place, name)
    found = open_images(f"{name}:{tmp_path}", 8, 3)
    assert len(found) == 2 * classes
    assert found.labels.tolist() == [label for label in range(classes) for _ in range(2)]
    assert len(found.class_names) == classes
    assert found.names[0].startswith("n0")
    assert {Path(each).parent.name for each in found.names} & {"n01440764"} == set()
    (tmp_path / place / found.names[0]).parent.rename(tmp_path / "away")
    with pytest.raises(InputError, match=rf"1 of {classes} class folders are missing, n0"):
        open_images(f"{name}:{tmp_path}", 8, 3)


def test_tiny_imagenet_is_its_train_folders(tmp_path):
    write_tiny(tmp_path)
    found = open_images(f"tiny-imagenet:{tmp_path}", 8, 3)
    assert len(found) == len(found.class_names) == 200
    assert found.labels.tolist() == list(range(200))
    assert found.names[3] == str(Path("n00000003", "images", "n00000003_0.JPEG"))


def test_check_counts_and_says_what_is_missing(tmp_path):
    write_cifar(tmp_path, "cifar10", pixels(60), np.arange(60) % 10, CLASSES)
    told = connr("data", "check", "cifar10", "--root", tmp_path)
    assert told.exit_code == 1
    assert "60 images, 60 with a label, 10 classes" in told.output
    assert "60 images, should be 60,000" in told.output
    assert "cifar-10-python.tar.gz" in told.output
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    assert "cifar-10-batches-py/test_batch is missing" in connr("data", "check", "cifar10", "--root", tmp_path).output
    for name, what in (("stl10", "train_X.bin is missing"), ("tiny-imagenet", "tiny-imagenet-200/train is missing")):
        assert what in connr("data", "check", name, "--root", tmp_path).output
    assert "10 of 10 class folders" in connr("data", "check", "imagenet10", "--root", tmp_path).output
    assert connr("data", "check", "cifar100", "--root", tmp_path).exit_code == 2
    assert connr("data", "check", "cifar10", "--root", tmp_path / "nowhere").exit_code == 2
    listed = connr("data", "list").output
    assert all(name in listed for name in NAMED)


def test_check_finds_what_is_whole(tmp_path, monkeypatch):
    write_class_folders(tmp_path / "tiny-imagenet-200" / "train", [f"n{i:08d}/images" for i in range(200)], 1)
    monkeypatch.setitem(DATASETS, "tiny-imagenet", DATASETS["tiny-imagenet"]._replace(images=200, labelled=200))
    told = connr("data", "check", "tiny-imagenet", "--root", tmp_path)
    assert told.exit_code == 0
    assert f"It is complete: connr fit tiny-imagenet:{tmp_path}" in told.output.replace("\n", "")


def test_the_same_name_on_every_surface(tmp_path, monkeypatch):
    """fit with the recipe of that name, evaluate, predict, report, the estimator; by CONNR_DATA and by NAME:ROOT."""
    write_cifar(tmp_path / "sets", "cifar10", pixels(60), np.arange(60) % 10, CLASSES)
    monkeypatch.chdir(tmp_path)
    fast = [
        *("train.epochs=1", "train.batch_size=20", "train.group_from=1", "framework={name: byol, hidden: 16, out: 8}"),
        "backbone={name: small, width: 4, stages: 2}",
    ]
    words = [word for setting in fast for word in ("--set", setting)]
    lost = connr("fit", "cifar10", *words)
    assert lost.exit_code == 2
    assert "write cifar10:FOLDER or set the environment variable CONNR_DATA" in lost.stderr
    done = connr("fit", f"cifar10:{tmp_path / 'sets'}", *words)
    assert done.exit_code == 0, done.output
    assert "60 images at 32 px into 10 clusters" in done.output
    assert connr("evaluate", "runs/cifar10-1").exit_code == 0
    assert connr("report", "runs/cifar10-1").exit_code == 0
    monkeypatch.setenv("CONNR_DATA", str(tmp_path / "sets"))
    rows = connr("predict", "runs/cifar10-1", "cifar10").stdout.splitlines()
    assert len(rows) == 61
    model = ConNR(None, recipe.load("cifar10", fast)).fit("cifar10")
    assert model.names_ == [str(index) for index in range(60)]
    assert (tmp_path / "cifar10").mkdir() is None
    assert dataset_name("cifar10") is None  # a folder of that name goes first


def test_a_hugging_face_data_set_by_name(tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
    rows = {"image": [Image.fromarray(image) for image in pixels(6, 12)], "label": [i % 2 for i in range(6)]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    found = open_images(f"hf:{tmp_path / 'set'}", 12, 3)
    assert torch.equal(found.images, torch.from_numpy(pixels(6, 12)).permute(0, 3, 1, 2))
    assert found.class_names == ["even", "odd"]
    with pytest.raises(InputError, match="has no split 'test'; it has train"):
        open_images(f"hf:{tmp_path / 'set'}:test", 12, 3)
    with pytest.raises(InputError, match="cannot be loaded"):
        open_images(f"hf:{tmp_path / 'nowhere'}", 12, 3)


def test_without_the_library_of_hugging_face_one_line_names_the_extra():
    code = "import sys; sys.modules['datasets'] = None; from connr.data import open_images; open_images('hf:x', 8, 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "connr[datasets]"' in done.stderr


@pytest.mark.skipif(not (SHARED / "cifar10-part1.npz").is_file(), reason="the real pixels are not beside the checkout")
def test_cifar10_on_its_real_pixels(tmp_path):
    """600 of them, in the distributed format and back."""
    whole = runpy.run_path(str(SHARED / "unpack.py"))["cifar10"](600)
    write_cifar(tmp_path, "cifar10", whole["images"], whole["labels"], CLASSES)
    found = open_images(f"cifar10:{tmp_path}", 32, 3)
    assert torch.equal(found.images, torch.from_numpy(whole["images"]).permute(0, 3, 1, 2))
    assert found.labels.tolist() == whole["labels"].tolist()
    mean, _ = found.statistics()
    assert mean == pytest.approx([0.491, 0.482, 0.447], abs=0.02)  # the figures that everyone normalises CIFAR-10 with
