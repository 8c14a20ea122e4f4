"""Files of a run folder that somebody else changed: each is refused in one sentence, before memory is taken for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import COLOURED
from typer.testing import CliRunner

from connr import networks, recipe, runs, schema
from connr.cli import app
from connr.data import cifar, open_images
from connr.data.feature_rows import open_features
from connr.data.named import BrokenDataset
from connr.engine import checkpoint
from connr.errors import InputError
from connr.report import page
from connr.run_folder import RunFolder

DEEP = "[" * 20_000 + "]" * 20_000


@pytest.fixture
def folder(coloured_run, tmp_path):
    """A copy of a finished run of 60 images in 3 clusters, its network 8 wide at the end."""
    shutil.copytree(coloured_run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def refused(*words):
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 2, (found.output, found.exception)
    head, _, message = found.output.rpartition("connr: ")
    assert message
    assert "Traceback" not in head
    return message


def edited(path, key, value):
    """Sets a dotted key of a JSON file; `...` removes it."""
    content = json.loads(path.read_text())
    place, parts = content, key.split(".")
    for part in parts[:-1]:
        place = place[part]
    if value is ...:
        del place[parts[-1]]
    else:
        place[parts[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("recipe", ..., "it has no recipe"),
        ("recipe", 3, "it has no recipe"),
        ("recipe.clusters", None, "has no number of clusters"),
        ("recipe.clusters", 10**9, "clusters=1000000000: Input should be less than or equal to 100000"),
        ("recipe.clusters", 4, "its assigner has 3 clusters, its recipe has 4"),
        ("recipe.method.base.out", 9, r"should be torch.float32 \[9\D.* by the recipe"),
        ("recipe.method.base.hidden", 65536, "should be .* by the recipe"),
        ("recipe.train.epochs", 10**30, "train.epochs=10"),
        ("recipe.data.size", 0, "has no data.size"),
        ("mean", ..., "mean: Field required"),
        ("mean", "abc", "mean: Input should be a valid list, is 'abc'"),
        ("mean", ["0.5"] * 3, "mean.0: Input should be a valid number, is '0.5'"),
        ("mean", [0.5], "mean and std should have 3 numbers each, have 1 and 3"),
        ("mean", [float("nan")] * 3, "mean.0: Input should be"),
        ("std", [0.1, 0.1, 0.0], "std should be at least 1e-06, is 0"),
        ("std", [0.1, 0.1, 1e-300], "std should be at least 1e-06, is 1e-300"),
        ("std", [0.1, 0.1, True], "std.2: Input should be a valid number, is True"),
        ("data", 5, "data: should be text"),
        ("data", "x" * 10_000, "data: should have at most 4,096 characters"),
        ("data", "\ud800", "data: should be text that UTF-8 can hold"),
        (
            "backbone",
            {"kind": "timm", "name": "resnet10t", "arguments": {}},
            "in its recipe and under `backbone`, or in neither",
        ),
        ("backbone", {"kind": "x"}, "backbone: "),
        ("backbone", [], "backbone: "),
    ],
)
def test_a_changed_config_is_refused(folder, coloured, key, value, message):
    edited(folder.config, key, value)
    with pytest.raises(InputError, match=message):
        runs.load_model(folder, "cpu")
    refused("predict", folder.path, coloured)


@pytest.mark.parametrize(
    "text", ["", "3", "[]", DEEP, f'{{"recipe": {DEEP}}}', f'{{"recipe": {"9" * 5000}}}', "\ufeff{}", "{"]
)
def test_what_is_no_config_is_refused(folder, coloured, text):
    folder.config.write_text(text)
    for words in (("predict", folder.path, coloured), ("sort", folder.path, "sorted"), ("report", folder.path)):
        assert "config.json cannot be read" in refused(*words)
    with pytest.raises(InputError, match="is neither a finished run"):
        networks.expects(f"run:{folder.path}")


def test_a_config_is_not_endless(folder):
    folder.config.write_bytes(b" " * (2**24 + 1))
    with pytest.raises(InputError, match="larger than 16,777,216 bytes"):
        runs.load_model(folder, "cpu")


@pytest.mark.parametrize("name", ["config", "model", "assignments", "skipped", "events"])
def test_a_device_is_no_file_of_a_run(folder, name):
    """Reading /dev/zero would not end."""
    path = getattr(folder, name)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a regular file"):
        {
            "config": lambda: runs.load_model(folder, "cpu"),
            "model": lambda: runs.load_model(folder, "cpu"),
            "assignments": lambda: runs.evaluate(folder),
            "skipped": lambda: page.read(folder),
            "events": lambda: page.read(folder),
        }[name]()


def retensored(path, name, change):
    """Changes a tensor of a safetensors file; None leaves it out. Returns all."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    tensors = safetensors.torch.load(raw)
    found = change(tensors.pop(name))
    tensors |= {} if found is None else {name: found.contiguous()}
    path.write_bytes(safetensors.torch.save(tensors, header.get("__metadata__")))
    return tensors


CENTROIDS = "assigner.centroids"
WEIGHT, WEIGHT_THERE = "representation.1.0.weight", "method.base.online.1.0.weight"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (CENTROIDS, torch.Tensor.double, r"centroids are torch.float64 \[3, 8\], should be torch.float32 \[3, 8\]"),
        (CENTROIDS, torch.Tensor.int, r"centroids are torch.int32 \[3, 8\]"),
        (CENTROIDS, lambda t: t[:2], "its assigner has 2 clusters, its recipe has 3"),
        (CENTROIDS, lambda t: t[:, :5], r"centroids are torch.float32 \[3, 5\]"),
        (CENTROIDS, torch.flatten, "centroids are missing, or not rows of numbers"),
        (CENTROIDS, lambda t: t / 0, "centroids holds numbers that are NaN or infinite"),
        (CENTROIDS, lambda t: None, "centroids are missing"),
        (WEIGHT, lambda t: t * torch.nan, "1.0.weight holds numbers that are NaN or infinite"),
        (WEIGHT, torch.Tensor.half, "1.0.weight is torch.float16"),
        (WEIGHT, lambda t: t[:-1], "1.0.weight is torch.float32"),
        (WEIGHT, lambda t: None, "1 tensors are missing, the first is 1.0.weight"),
    ],
)
def test_changed_tensors_are_refused(folder, coloured, name, change, message):
    retensored(folder.model, name, change)
    with pytest.raises(InputError, match=message):
        runs.load_model(folder, "cpu")
    refused("predict", folder.path, coloured)


def test_weights_that_overflow_are_no_answer(folder, coloured):
    """All are finite, what they give is not: predict wrote `0,nan,0` and ended well."""
    retensored(folder.model, WEIGHT, lambda t: t.sign() * 3e38)
    assert "features that are NaN or infinite" in refused("predict", folder.path, coloured)


def test_a_recipe_asks_for_no_more_memory_than_its_weights_take(folder):
    """65,536 x 65,536 weights would be 17 GiB."""
    edited(folder.config, "recipe.method.base.hidden", 65536)
    edited(folder.config, "recipe.method.base.out", 65536)
    retensored(folder.model, CENTROIDS, lambda t: torch.zeros(3, 65536))
    program = (
        "import resource, torch; from connr import runs; from connr.run_folder import RunFolder\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        f"runs.load_model(RunFolder({str(folder.path)!r}), 'cpu')"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "by the recipe" in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,nan,0.1,", "finite number"),
        ("0,0.1,inf,", "finite number"),
        ("0,-1,0.1,", "greater than or equal to 0"),
        ("0,0.1,3,", "less than or equal to 2"),
        (f"{'9' * 3000},0.1,0.1,", "valid integer"),
        (f"0,{'9' * 3000},0.1,", "valid number"),
        (f"0,{'9' * 5000},0.1,", "over 4096 characters"),
        ("3,0.1,0.1,", "there is no cluster 3"),
        ("1.5,0.1,0.1,", "valid integer"),
        ("0,0.1", "ends before its last column"),
        ("0,0.1,0.1,\0", "zero byte"),
        (f"0,0.1,0.1,{'x' * 5000}", "over 4096 characters"),
        (f"0,0.1,0.1,{'x' * 200_000}", "field larger than field limit"),
    ],
)
def test_changed_assignments_are_refused(folder, row, message):
    with open(folder.assignments, "a", encoding="utf-8") as file:
        file.write(f"x.png,{row}\n")
    with pytest.raises(InputError, match=message):
        schema.read_assignments(folder.assignments, 3)
    for words in (("evaluate", folder.path), ("report", folder.path), ("sort", folder.path, "sorted")):
        if not (words[0] == "evaluate" and row.startswith("3,")):  # which does not know how many clusters there are
            assert "assignments.csv is not as a run writes it" in refused(*words)


def test_there_are_not_more_clusters_than_images(folder, tmp_path):
    """`sort` made a folder for each."""
    edited(folder.config, "recipe.clusters", 100_000)
    edited(folder.config, "recipe.train.batch_size", 1000)
    assert "60 rows, fewer than the 100,000 clusters" in refused("sort", folder.path, tmp_path / "sorted")
    assert not (tmp_path / "sorted").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"epoch": 3}', "stage: Field required"),
        ('{"epoch": "3", "stage": "group", "seconds": 1}', "epoch: Input should be a valid integer, is '3'"),
        ('{"epoch": 3, "stage": "group", "seconds": 1, "cluster_sizes": [1, -1]}', "cluster_sizes.1"),
        ('{"epoch": 3, "stage": "group", "seconds": 1, "cluster_sizes": 5}', "cluster_sizes"),
        ('{"epoch": 3, "stage": "group", "seconds": 1, "loss": "low"}', "loss: Input should be a valid number, is 'low'"),
        ('{"epoch": 3, "stage": "group", "seconds": 1, "loss": 1e300}', "loss"),
        ('{"epoch": 3, "stage": "group", "seconds": -1}', "seconds"),
        ('{"epoch": 3, "stage": "group", "seconds": 1, "warnings": [1]}', "warnings.0: should be text"),
        ('{"epoch": 3, "stage": "group", "seconds": 1, "another": [[]]}', "another"),
        ('{"epoch": 1, "stage": "group", "seconds": 1}', "epoch 1 comes after 2"),
        (f'{{"epoch": 3, "stage": {DEEP}}}', "nested deeper"),
        (f'{{"epoch": {"9" * 5000}}}', "cannot be read as JSON"),
        ("3", "should hold a JSON object"),
    ],
)
def test_changed_events_are_refused(folder, line, message):
    with open(folder.events, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=f"line 3, .*{message}"):
        runs.history(folder)
    refused("report", folder.path)


def test_epochs_keep_what_another_version_writes(tmp_path):
    records = [{"epoch": 1, "stage": "warm", "seconds": 0.5, "entropy": 2.5}, {"epoch": 4, "stage": "x", "seconds": 1}]
    schema.write_epochs(tmp_path / "e", records[:1])
    schema.append_epoch(tmp_path / "e", records[1])
    with open(tmp_path / "e", "a", encoding="utf-8") as file:
        file.write('{"epoch": 5')
    assert schema.read_epochs(tmp_path / "e") == records
    assert schema.read_epochs(tmp_path / "none") == []


def resigned(path, tensors=None, **changes):
    """A checkpoint with another header, and the digest of its tensors, as whoever means it would write it."""
    raw = path.read_bytes()
    header = json.loads(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["run"])
    tensors = tensors or safetensors.torch.load(raw)
    header = {**header, "digest": checkpoint.digest(tensors), **changes}
    kept = {key: value for key, value in header.items() if value is not ...}
    path.write_bytes(safetensors.torch.save(tensors, {"run": json.dumps(kept)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": ...}, "epoch: Field required"),
        ({"epoch": -1}, "epoch"),
        ({"epoch": "2"}, "epoch: Input should be a valid integer"),
        ({"step": 10**30}, "step"),
        ({"step": 3}, "it has no loss and gradient of the steps of its epoch"),
        ({"seconds": None}, "seconds"),
        ({"inertia": "x"}, "inertia"),
        ({"inertia": ...}, "inertia: Field required"),
        ({"digest": 5}, "digest"),
        ({"digest": ...}, "digest"),
        ({"data": []}, "data"),
        ({"format": {"a": 1}}, "has format"),
    ],
)
def test_a_changed_header_of_a_checkpoint_is_refused(folder, coloured, changes, message):
    resigned(checkpoint.checkpoints(folder.checkpoints)[-1], **changes)
    found = refused("fit", coloured, "--resume", "--out", folder.path, "--device", "cpu")
    assert message in found
    assert "epoch-00002.safetensors" in found


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("clusters.centroids", lambda t: t.double(), "centroids are not rows of numbers"),
        ("clusters.centroids", lambda t: t * torch.nan, "centroids holds numbers that are NaN"),
        ("clusters.assignments", lambda t: t + 3, "assignments are not in 0..2"),
        ("clusters.assignments", lambda t: None, "assignments are not whole numbers"),
        (
            "optimizer.0.momentum_buffer",
            lambda t: t[:1],
            "state '0.momentum_buffer' of the checkpoint does not fit this network",
        ),
        ("optimizer.0.momentum_buffer", lambda t: t * torch.inf, "0.momentum_buffer holds numbers"),
        (WEIGHT_THERE, lambda t: t * torch.nan, "holds numbers that are NaN or infinite"),
        (WEIGHT_THERE, lambda t: t[:1], "is of another network"),
        (WEIGHT_THERE, torch.Tensor.double, "is of another network"),
    ],
)
def test_changed_tensors_of_a_checkpoint_are_refused(folder, coloured, name, change, message):
    first, last = checkpoint.checkpoints(folder.checkpoints)
    last.unlink()  # so that there is an epoch to train
    resigned(first, retensored(first, name, change))
    assert message in refused("fit", coloured, "--resume", "--out", folder.path, "--device", "cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"architecture": 5}, "architecture: should be text"),
        ({"architecture": "x", "model_args": 5}, "model_args: Input should be a valid dictionary"),
        ({"architecture": "x", "pretrained_cfg": {"input_size": [3, 10**9, 10**9]}}, "input.input_size.1"),
        ({"architecture": "x", "pretrained_cfg": {"input_size": 5}}, "input.input_size"),
        ({"architecture": "x", "pretrained_cfg": {"mean": ["a"]}}, "input.mean.0"),
        ({"architecture": "x", "pretrained_cfg": {"std": [0, 1, 1]}}, "input.std.0"),
        ({"architecture": "x", "pretrained_cfg": {"mean": [0.5]}}, "should have 3 numbers each"),
        ({"architecture": "x", "pretrained_cfg": []}, None),
        ({"architecture": "x", "pretrained_cfg": {"classifier": 5}}, "input.classifier"),
        ({"architecture": "x", "num_classes": 1e9}, "num_classes"),
    ],
)
def test_a_changed_config_of_timm_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(json.dumps(content))
    if message is None:  # as if there was none
        assert networks.expects(f"hub:{tmp_path}").size == 224
        return
    with pytest.raises(InputError, match=f"not as timm writes it: {message}|not as timm writes it: .*{message}"):
        networks.expects(f"hub:{tmp_path}")


def test_a_section_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("extends: digits\ntrain: {epochs: 7}\ntrain: {base_lr: 1}\n")
    with pytest.raises(InputError, match="'train' is there twice"):
        recipe.load(str(path))
    with pytest.raises(InputError, match="'epochs' is there twice"):
        recipe.load("digits", ["train={epochs: 7, epochs: 8}"])


def test_recipes_that_double_or_come_back_under_another_name_are_refused(tmp_path):
    for index in range(40):
        (tmp_path / f"{index}.yaml").write_text(f"extends: [{tmp_path}/{index + 1}.yaml, {tmp_path}/{index + 1}.yaml]\n")
    (tmp_path / "40.yaml").write_text("clusters: 3\n")
    with pytest.raises(InputError, match="extends more than 16 others"):
        recipe.load(str(tmp_path / "0.yaml"))
    (tmp_path / "a.yaml").write_text(f"extends: {tmp_path}/../{tmp_path.name}/a.yaml\n")
    with pytest.raises(InputError, match=r"extends more than 16 others|not form a cycle"):
        recipe.load(str(tmp_path / "a.yaml"))


def test_a_recipe_is_short_and_its_name_not_empty(tmp_path, coloured):
    (tmp_path / "x.yaml").write_text("#" * 2**16 + "\n")
    with pytest.raises(InputError, match="larger than 65,536 bytes"):
        recipe.load(str(tmp_path / "x.yaml"))
    assert "recipe '' is neither a YAML file nor one of" in refused("fit", coloured, "--recipe", "", "--clusters", "3")
    assert f"recipe '{'x' * 199}... is neither" in refused(
        "fit", coloured, "--recipe", "x" * 3000 + ".yaml", "--clusters", "3"
    )


@pytest.mark.parametrize(
    "setting",
    [
        f"train.epochs={10**30}",
        "train.base_lr=1.0e+300",
        "train.batch_size=1000000000000",
        "clusters=1000000000",
        "kmeans.restarts=1000000000",
        "group.neighbourhood.layers=1000000000",
        "augment.warp=1.0e+300",
        "data.resident_gib=1.0e+300",
        "method.base.predictor_std=1.0e+300",
    ],
)
def test_numbers_of_a_recipe_have_an_upper_bound(setting):
    with pytest.raises(InputError, match=rf"{setting.partition('=')[0]}=.*less than or equal to"):
        recipe.load("digits", [setting])


@pytest.mark.parametrize("value", ["9" * 5000, "0x" + "f" * 9000, "2020-99-99", DEEP[:2000], "!!binary x", "{a: &x 1}"])
def test_a_setting_of_any_kind_is_refused_in_one_sentence(value):
    with pytest.raises(InputError) as found:
        recipe.load("digits", [f"train.epochs={value}"])
    assert len(str(found.value)) < 1000


def test_changes_to_a_resumed_run_are_laid_over_its_recipe_and_named(folder, coloured):
    """They were laid over the recipe of the data, which has no number of clusters."""
    for words, line in (
        (("--set", "train.epochs=4"), "  -   epochs: 2\n  +   epochs: 4"),
        (("--seed", "7"), "  - seed: 0\n  + seed: 7"),
        (("--clusters", "4"), "  - clusters: 3\n  + clusters: 4"),
    ):
        found = refused("fit", coloured, "--resume", "--out", folder.path, *words)
        assert "holds a run of another recipe" in found
        assert found.count("\n") == 3, found
        assert line in found
    same = [word for setting in COLOURED for word in ("--set", setting)]
    words = ("fit", coloured, "--resume", "--out", folder.path, "--clusters", 3, "--set", "train.batch_size=256", *same)
    found = CliRunner().invoke(app, [*map(str, words), "--device", "cpu", "--quiet"])  # the run made 256 into 60
    assert found.exit_code == 0, found.output


def test_a_refused_resume_leaves_the_list_of_skipped_files(folder, coloured, tmp_path):
    folder.skipped.write_text("path,reason\nthen.png,because\n")
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    shutil.copytree(coloured, tmp_path / "others")
    shutil.copy(coloured / "a" / "01.png", tmp_path / "others" / "a" / "00.png")
    (tmp_path / "others" / "a" / "broken.png").write_text("no picture")
    assert "is of a run on other images" in refused(
        "fit", tmp_path / "others", "--resume", "--out", folder.path, "--device", "cpu"
    )
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", ["labels", "class_names"])
def test_an_array_that_declares_more_than_it_holds_is_refused(tmp_path, name):
    """It would be 8 TB. `np.zeros` gives them where the system promises more than it has."""
    import io
    import zipfile

    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((5, 8, 8), np.uint8))
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", file.getvalue() + bytes(80))
    with pytest.raises(
        InputError, match=rf"{name} is declared as \[1000000000000\] of int64, 8,000,000,000,000 bytes, and holds"
    ):
        open_images(path, 8, 1)
    with pytest.raises(InputError, match="is declared as"):
        open_features(path)


@pytest.mark.parametrize("label", ["one", None, -1, 1.5, [1]])
def test_labels_of_cifar_are_classes(tmp_path, label):
    import pickle

    folder, files, meta = cifar.FILES["cifar10"]
    (tmp_path / folder).mkdir()
    for file in files:
        content = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, label if file == files[1] else 1]}
        (tmp_path / folder / file).write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / folder / meta).write_bytes(pickle.dumps({"label_names": ["a", "b"]}, protocol=2))
    with pytest.raises(BrokenDataset, match="data_batch_2 holds no images with labels"):
        cifar.read("cifar10", tmp_path)


def test_readers_take_mutated_files():
    """A tenth of what `python benchmarks/fuzz_readers.py` does with 2,000."""
    script = Path(__file__).parents[1] / "benchmarks" / "fuzz_readers.py"
    words = [sys.executable, str(script), "--cases", "198", "--seed", "1"]
    found = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 went wrong" in found.stdout
