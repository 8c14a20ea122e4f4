"""Cluster 2 is cluster 2 wherever a user meets it."""

import csv
import io
import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import reports
import torch
from conftest import COLOURED
from test_cli import connr

from connr import ConNR, recipe, runs
from connr.clustering.kmeans import Clusters
from connr.data import open_images
from connr.engine.whole_set import renumbered
from connr.run_folder import RunFolder


@pytest.fixture
def everywhere(coloured, tmp_path, monkeypatch):
    """Surface -> {path: cluster} of the same fit."""
    monkeypatch.chdir(tmp_path)
    model = ConNR(3, recipe.load("photos", COLOURED), out="run").fit(coloured)
    names = model.names_
    found = {"labels_": dict(zip(names, model.labels_.tolist(), strict=True))}

    def said(surface, clusters):
        found[surface] = dict(zip(names, np.asarray(clusters).tolist(), strict=True))

    with open("run/assignments.csv", newline="", encoding="utf-8") as file:
        found["assignments.csv"] = {row["path"]: int(row["cluster"]) for row in csv.DictReader(file)}
    connr("report", "run", coloured)
    points = reports.tree(RunFolder("run")).points
    found["report.html"] = dict(zip(points["name"], points["cluster"], strict=True))
    rows = csv.DictReader(io.StringIO(connr("predict", "run", coloured).stdout))
    found["connr predict"] = {row["path"]: int(row["cluster"]) for row in rows}
    connr("sort", "run", "sorted")
    with open("sorted/sorted.csv", newline="", encoding="utf-8") as file:
        found["connr sort"] = {row["path"]: int(row["file"][len("cluster-") :].split("/")[0]) for row in csv.DictReader(file)}
    said("predict", model.predict(coloured))
    said("a loaded run", ConNR.load("run").predict(coloured))
    model.save("saved")
    said("saved and loaded", ConNR.load("saved").predict(coloured))
    said("pickled", pickle.loads(pickle.dumps(model)).predict(coloured))
    connr("export", "run", "--to", "safetensors", "--out", "lean")
    said("the lean folder", ConNR.load("lean").predict(coloured))
    said("cluster_centers_", ((model.transform(coloured)[:, None] - model.cluster_centers_) ** 2).sum(axis=2).argmin(axis=1))
    said("Model", runs.load_model(RunFolder("run"))[1].assign(open_images(coloured, 16, 3).images).clusters)

    images = open_images(coloured, 16, 3).images.permute(0, 2, 3, 1).contiguous()
    runtime = pytest.importorskip("onnxruntime")
    connr("export", "run", "--to", "onnx", "--out", "model.onnx")
    said("onnx", runtime.InferenceSession("model.onnx").run(["cluster"], {"images": images.numpy()})[0])
    pytest.importorskip("huggingface_hub")
    from connr.export.model_repository import HubModel

    connr("export", "run", "--to", "hub", "--out", "for-hub")
    said("the hub folder", HubModel.from_pretrained("for-hub")(images)[1])
    return found


def test_cluster_numbers_mean_the_same_everywhere(everywhere):
    labels = everywhere["labels_"]
    assert len(labels) == 60
    assert set(labels.values()) == {0, 1, 2}
    assert {surface for surface, clusters in everywhere.items() if clusters != labels} == set()


def test_so_do_their_centroids(coloured_run):
    """What `history_` and events.jsonl count as cluster k is what assignments.csv calls k."""
    sizes = runs.history(RunFolder(coloured_run))[-1]["cluster_sizes"]
    with open(Path(coloured_run) / "assignments.csv", newline="", encoding="utf-8") as file:
        clusters = [int(row["cluster"]) for row in csv.DictReader(file)]
    assert sizes == [clusters.count(k) for k in range(3)]


def test_clusters_are_numbered_by_size(coloured_run):
    sizes = runs.history(RunFolder(coloured_run))[-1]["cluster_sizes"]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([2, 0, 0, 1, 0], [1, 0, 0, 2, 0]),
        ([1, 1, 0, 0], [0, 0, 1, 1]),  # equally large: that with the first image
        ([3, 3, 1, 3, 1], [0, 0, 1, 0, 1]),  # 0 and 2 are empty and come last
        ([0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_equal_clusterings_have_equal_numbers(before, after):
    members = torch.tensor(before)
    centroids = torch.arange(4.0).unsqueeze(1)
    found, numbers = renumbered(Clusters(centroids, members, 1.5))
    assert torch.equal(found.centroids, centroids[numbers])
    assert found.assignments.tolist() == after
    assert torch.equal(found.centroids[found.assignments], centroids[members])  # each image keeps its centroid
    assert found.centroids.flatten().sort().values.tolist() == [0, 1, 2, 3]
    for order in itertools.permutations(range(4)):
        other, _ = renumbered(Clusters(centroids, torch.tensor(order)[members], 1.5))
        assert other.assignments.tolist() == after
