import numpy as np
import pytest
from conftest import TINY
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import connr
from connr import ConNR, metrics, recipe


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
