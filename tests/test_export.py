import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import connr, refused

from connr import ConNR, runs
from connr.data import open_images
from connr.errors import ExportMismatch
from connr.export import deployed, onnx
from connr.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(coloured):
    """uint8 [60,16,16,3]."""
    return open_images(coloured, 16, 3).images.permute(0, 2, 3, 1).contiguous()


def test_the_lean_folder_is_the_model_and_no_more(coloured_run, coloured):
    done = connr("export", coloured_run, "--to", "safetensors", "--out", "lean")
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir("lean")) == ["config.json", "model.safetensors"]
    assert str(coloured) not in Path("lean/config.json").read_text()  # it may be given to others
    assert np.array_equal(ConNR.load("lean").predict(coloured), ConNR.load(coloured_run).predict(coloured))
    done = connr("predict", "lean", coloured)
    assert done.stdout == connr("predict", coloured_run, coloured).stdout


def test_onnx_gives_torchs_answers_for_any_number_of_images(coloured_run, images):
    runtime = pytest.importorskip("onnxruntime")
    done = connr("export", coloured_run, "--to", "onnx", "--out", "model.onnx")
    assert done.exit_code == 0, done.output
    assert "images uint8 [n,16,16,3] -> features, cluster, distance" in done.output
    assert os.listdir() == ["model.onnx"]
    session = runtime.InferenceSession("model.onnx")
    assigned = runs.load_model(RunFolder(coloured_run))[1].assign(images.permute(0, 3, 1, 2))
    for n in (1, 7, 60):
        features, clusters, distances = session.run(None, {"images": images[:n].numpy()})
        assert features.shape == (n, 8)
        assert clusters.tolist() == assigned.clusters[:n].tolist()
        assert distances == pytest.approx(assigned.distances[:n].numpy(), abs=1e-4)
    assert session.get_modelmeta().custom_metadata_map["clusters"] == "3"


def test_an_onnx_file_that_differs_is_not_written(coloured_run, monkeypatch):
    """Here because the graph is of another normalisation than the one it is checked against."""
    pytest.importorskip("onnxruntime")
    r, model = runs.load_model(RunFolder(coloured_run))
    checked = onnx.compare

    def shifted(ours, session, images):
        return checked(deployed.Deployed(ours.representation, ours.assigner, [0.0] * 3, [1.0] * 3).eval(), session, images)

    monkeypatch.setattr(onnx, "compare", shifted)
    with pytest.raises(ExportMismatch, match="ONNX differs from torch by"):
        onnx.save_onnx(r, model, "", Path("model.onnx"))
    assert os.listdir() == []
    done = connr("export", coloured_run, "--to", "onnx", "--out", "model.onnx")
    assert done.exit_code == 1
    assert done.stderr.startswith("connr: ONNX differs from torch")


def test_it_is_checked_on_the_pictures_of_the_run_or_on_digits(coloured, images):
    assert torch.equal(onnx.real_images(str(coloured), 16, 3), images)
    for gone in ("", str(coloured / "gone")):
        assert onnx.real_images(gone, 16, 3).shape == (256, 16, 16, 3)


def test_the_hub_folder_loads_with_the_mixin(coloured_run, coloured, images):
    hub = pytest.importorskip("huggingface_hub")
    from connr.export.model_repository import HubModel

    done = connr("export", coloured_run, "--to", "hub", "--out", "for-hub")
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir("for-hub")) == ["README.md", "config.json", "model.safetensors"]
    assigned = runs.load_model(RunFolder(coloured_run))[1].assign(images.permute(0, 3, 1, 2))
    model = HubModel.from_pretrained("for-hub")
    assert isinstance(model, hub.PyTorchModelHubMixin)
    with torch.no_grad():
        features, clusters, distances = model(images)
    assert torch.equal(clusters, assigned.clusters)
    assert torch.allclose(distances, assigned.distances, atol=1e-5)
    model.save_pretrained("again")
    assert torch.equal(HubModel.from_pretrained("again")(images)[0], features)
    assert np.array_equal(ConNR.load("for-hub").predict(coloured), assigned.clusters.numpy())

    card = hub.ModelCard.load("for-hub/README.md")
    assert card.data.library_name == "connr"
    assert "3 clusters of images" in card.text
    assert "had no labels to score it against" in card.text
    assert "method:\n  name: connr\n  base:\n    name: byol" in card.text


def test_a_hub_folder_with_a_tensor_missing_is_not_taken(coloured_run):
    pytest.importorskip("huggingface_hub")
    from safetensors.torch import load_file, save_file

    from connr.export.model_repository import HubModel

    assert connr("export", coloured_run, "--to", "hub", "--out", "for-hub").exit_code == 0
    tensors = load_file("for-hub/model.safetensors")
    save_file({name: value for name, value in tensors.items() if name != "assigner.centroids"}, "for-hub/model.safetensors")
    with pytest.raises(RuntimeError, match=r"assigner\.centroids"):
        HubModel.from_pretrained("for-hub")


def test_the_card_tells_the_scores_where_there_are_labels(tiny, few_digits):
    pytest.importorskip("huggingface_hub")
    folder = RunFolder("run")
    runs.fit(tiny, few_digits, folder)
    assert connr("export", "run", "--to", "hub", "--out", "for-hub").exit_code == 0
    scores = runs.evaluate(folder)
    text = Path("for-hub/README.md").read_text()
    assert f"| {scores['acc']:.4f} | {scores['nmi']:.4f} | {scores['ari']:.4f} |" in text
    assert "On the 400 labelled images" in text


def test_bad_input_is_refused_and_nothing_is_lost(coloured_run):
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    Path("mine.onnx").write_text("mine")
    assert "--to 'tf' should be one of: safetensors, onnx, hub" in refused("export", coloured_run, "--to", "tf", "--out", "x")
    assert "should end in .onnx" in refused("export", coloured_run, "--to", "onnx", "--out", "model")
    assert "mine.onnx exists" in refused("export", coloured_run, "--to", "onnx", "--out", "mine.onnx")
    for to in ("safetensors", "hub"):
        assert "not an empty folder" in refused("export", coloured_run, "--to", to, "--out", "full")
        assert "there is no folder" in refused("export", coloured_run, "--to", to, "--out", "none/x")
    assert "holds no run" in refused("export", "full", "--to", "safetensors", "--out", "x")
    assert Path("full/mine.txt").read_text() == Path("mine.onnx").read_text() == "mine"


@pytest.mark.parametrize(
    ("to", "out", "gone", "extra"), [("onnx", "m.onnx", "onnxruntime", "onnx"), ("hub", "m", "huggingface_hub", "hub")]
)
def test_a_missing_package_is_named(coloured_run, to, out, gone, extra):
    code = (
        f"import sys; sys.modules['{gone}'] = None; from connr.cli import app\n"
        f"sys.argv = ['connr', 'export', {str(coloured_run)!r}, '--to', '{to}', '--out', '{out}']; app()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'pip install "connr[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir() == []
