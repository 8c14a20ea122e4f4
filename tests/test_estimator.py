import io
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TINY
from joblib import parallel_config
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torchvision.datasets import ImageFolder

import connr
from connr import ConNR, metrics, recipe, runs


@pytest.fixture(scope="module")
def images():
    return (load_digits().images[:300] * 15).astype(np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The digits recipe at a size for tests, as a file."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(recipe.load("digits", TINY).to_yaml())
    return str(path)


@pytest.fixture(scope="module")
def fitted(images, small):
    return ConNR(n_clusters=8, recipe=small, epochs=3).fit(images)


def test_fit_predict_transform_score(fitted, images):
    assert fitted.labels_.shape == (300,)
    assert fitted.cluster_centers_.shape == (8, fitted.n_features_out_)
    assert len(fitted.history_) == 3
    assert np.array_equal(fitted.predict(images), fitted.labels_)
    features = fitted.transform(images)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    nearest = ((features[:, None] - fitted.cluster_centers_) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(nearest, fitted.labels_)
    digits = load_digits().target[:300]
    assert fitted.score(images, digits) == metrics.accuracy(digits, fitted.labels_)


def test_saved_and_loaded_it_answers_the_same(fitted, images, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = ConNR.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(images), fitted.labels_)
    assert loaded.n_clusters == 8
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_out_is_a_run_folder(images, small, tmp_path):
    model = ConNR(n_clusters=4, recipe=small, epochs=2, out=tmp_path / "run")
    assigned = model.fit_predict(images)
    assert (tmp_path / "run" / "assignments.csv").is_file()
    assert np.array_equal(ConNR.load(tmp_path / "run").predict(images), assigned)


def test_parameters_are_scikit_learns():
    model = ConNR(n_clusters=3, random_state=5)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_clusters=4).n_clusters == 4
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


def test_random_state_decides(images, small):
    one, same, other = (ConNR(8, small, seed, epochs=2).fit(images) for seed in (0, 0, 1))
    assert np.array_equal(one.cluster_centers_, same.cluster_centers_)
    assert not np.array_equal(one.cluster_centers_, other.cluster_centers_)


def test_bad_input_is_a_value_error(images):
    with pytest.raises(ValueError, match="should be uint8"):
        ConNR().fit(images.astype(float))
    with pytest.raises(ValueError, match="clusters=400 is more than the 300 images"):
        ConNR(400, "digits").fit(images)


def test_public_names_are_there():
    for name in connr.__all__:
        assert getattr(connr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        connr.Missing  # noqa: B018


def test_a_fit_says_what_scikit_learn_says(fitted, images):
    assert fitted.n_iter_ == len(fitted.history_) == 3
    features = fitted.transform(images)
    squared = ((features - fitted.cluster_centers_[fitted.labels_]) ** 2).sum()
    assert fitted.inertia_ == pytest.approx(squared, rel=1e-4)
    assert fitted.names_ == [str(index) for index in range(300)]
    assert fitted.skipped_ == []
    assert list(fitted.get_feature_names_out()) == [f"connr{index}" for index in range(16)]


def test_features_come_as_a_frame_when_asked(fitted, images):
    pandas = pytest.importorskip("pandas")
    frame = clone(fitted).set_output(transform="pandas").fit(images).transform(images)
    assert isinstance(frame, pandas.DataFrame)


def test_in_another_process_it_answers_the_same(fitted, images, tmp_path):
    fitted.save(tmp_path / "model")
    np.save(tmp_path / "images.npy", images)
    with open(tmp_path / "model.pickle", "wb") as file:
        pickle.dump(fitted, file)
    code = (
        "import sys, pickle, numpy as np; from connr import ConNR\n"
        "import torch; torch.set_num_threads(1)\n"  # as in conftest: sums are taken in another order by more
        "place = sys.argv[1]; images = np.load(place + '/images.npy')\n"
        "for model in (ConNR.load(place + '/model'), pickle.load(open(place + '/model.pickle', 'rb'))):\n"
        "    np.save(sys.stdout.buffer, model.predict(images)); np.save(sys.stdout.buffer, model.transform(images))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    said = io.BytesIO(done.stdout)
    for _ in ("loaded", "unpickled"):
        assert np.array_equal(np.load(said), fitted.labels_)
        assert np.array_equal(np.load(said), fitted.transform(images))


def test_a_pickle_keeps_the_fit_too(fitted, images):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.labels_, fitted.labels_)
    assert again.history_ == fitted.history_
    assert again.get_params() == fitted.get_params()
    assert np.array_equal(again.predict(images), fitted.labels_)


def test_it_is_a_step_of_a_pipeline(images, small):
    labels = load_digits().target[:300]
    steps = Pipeline([("connr", ConNR(8, small)), ("classify", LogisticRegression(max_iter=5000))])
    steps.set_params(connr__epochs=2).fit(images, labels)
    assert steps.score(images, labels) > 0.3  # ten classes
    assert Pipeline([("connr", ConNR(8, small, epochs=1))]).fit_predict(images).shape == (300,)


def test_random_state_is_scikit_learns(images, small):
    def seeds(random_state):
        model = ConNR(8, small, random_state, epochs=1)
        return [model.fit(images).recipe_.seed, model.fit(images).recipe_.seed]

    assert seeds(7) == seeds(np.int64(7)) == [7, 7]
    one, other = seeds(np.random.RandomState(0))
    assert one != other  # an instance goes on from fit to fit ...
    assert seeds(np.random.RandomState(0)) == [one, other]  # ... and is what it was seeded with
    first, second = seeds(None)
    assert first != second
    with pytest.raises(ValueError, match="seed=-1"):
        seeds(-1)


def test_n_jobs_are_the_threads_of_a_call_and_no_longer(images, small, monkeypatch):
    before, seen = torch.get_num_threads(), []
    fit = runs.fit
    monkeypatch.setattr(runs, "fit", lambda *a, **k: (seen.append(torch.get_num_threads()), fit(*a, **k))[1])
    for n_jobs, threads in ((1, 1), (2, 2), (-1, before), (None, 1)):
        model = ConNR(8, small, epochs=1, n_jobs=n_jobs).fit(images)
        assert seen.pop() == threads
        assert torch.get_num_threads() == before
    with parallel_config(n_jobs=2):
        model.fit(images)
    assert seen.pop() == 2
    with pytest.raises(ValueError, match="should be uint8"):
        model.set_params(n_jobs=2).fit(images.astype(float))
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="n_jobs == 0"):
        model.set_params(n_jobs=0).predict(images)


def test_verbose_shows_progress_on_standard_error(images, small, capsys):
    ConNR(8, small, epochs=2).fit(images)
    assert capsys.readouterr() == ("", "")
    ConNR(8, small, epochs=2, verbose=1).fit(images)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 2/2" in shown.err


def test_every_kind_of_data_that_the_command_takes(coloured, coloured_run, tmp_path):
    model = ConNR.load(coloured_run)
    clusters = model.predict(coloured)
    paths = sorted(coloured.rglob("*.png"))
    assert np.array_equal(model.predict(paths), clusters)
    assert np.array_equal(model.predict([Image.open(path) for path in paths]), clusters)
    assert np.array_equal(model.predict(ImageFolder(coloured)), clusters)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(60) % 3)
    assert np.array_equal(model.predict(tmp_path / "images.npz"), model.predict(pixels))
    assert model.score(tmp_path / "images.npz") == metrics.accuracy(np.arange(60) % 3, model.predict(pixels))
    assert model.predict("digits").shape == (1797,)
    with pytest.raises(ValueError, match="X has no labels"):
        model.score(coloured)


def test_unreadable_pictures_are_told_of(coloured, coloured_run, tmp_path):
    shutil.copytree(coloured, tmp_path / "data")
    (tmp_path / "data" / "broken.png").write_text("no picture")
    with pytest.warns(UserWarning, match=r"1 pictures cannot be read and have no row: broken.png"):
        assert ConNR.load(coloured_run).predict(tmp_path / "data").shape == (60,)
