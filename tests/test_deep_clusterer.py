"""`DeepClusterer`: one estimator for every method; `ConNR` is it with the recipe's method."""

import importlib.util
import inspect
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from test_toy_method import TOY, environment

from connr import ConNR, DeepClusterer
from connr.clustering.assigners import Head
from connr.errors import InputError

SMALL = {"backbone.width": 4, "train.batch_size": 50, "train.evaluate_every": 0}
SHARES = {"method.pretext": 0.5, "method.cluster": 0.25}
SIZES = {"method.hidden": 16, "method.out": 8, "method.neighbours": 3, "method.cluster_batch": 50}
SCAN = {**SHARES, **SIZES, "method.self_label_batch": 50}


@pytest.fixture(scope="module")
def images():
    return (load_digits().images[:150] * 15).astype(np.uint8)


@pytest.fixture(scope="module")
def scan(images):
    return DeepClusterer("scan", 4, "digits", {**SMALL, **SCAN}, epochs=4).fit(images)


def test_a_method_with_a_head_fits_predicts_and_transforms(scan, images):
    assert scan.recipe_.method.name == "scan"
    assert isinstance(scan.model_.assigner, Head)
    assert [record["stage"] for record in scan.history_] == ["pretext", "pretext", "cluster", "self_label"]
    assert np.array_equal(scan.predict(images), scan.labels_)
    assert scan.transform(images).shape == (150, scan.n_features_out_)
    assert len(scan.get_feature_names_out()) == scan.n_features_out_
    assert 0 <= scan.score(images, load_digits().target[:150]) <= 1


def test_saved_and_loaded_it_answers_the_same(scan, images, tmp_path):
    scan.save(tmp_path / "model")
    loaded = DeepClusterer.load(tmp_path / "model")
    assert type(loaded) is DeepClusterer
    assert type(ConNR.load(tmp_path / "model")) is ConNR
    assert np.array_equal(loaded.predict(images), scan.labels_)


def test_settings_change_the_recipe_and_what_is_given_by_name_comes_first(images):
    settings = {**SMALL, "method.temperature": 1e-3, "augment.zoom": (0.9, 1.1)}
    fitted = DeepClusterer("idfd", 4, "digits", {**settings, "train.momentum": np.float64(0.5)}, epochs=1).fit(images)
    r = fitted.recipe_
    assert (r.method.name, r.method.temperature, r.augment.zoom) == ("idfd", 1e-3, (0.9, 1.1))
    assert (r.train.momentum, r.train.epochs, r.train.batch_size) == (0.5, 1, 50)


def test_parameters_are_scikit_learns():
    model = DeepClusterer("scan", settings={"method.temperature": 0.5})
    assert clone(model).get_params() == model.get_params()
    assert set(ConNR().get_params()) == set(inspect.signature(ConNR).parameters)
    assert set(ConNR().get_params()) == set(model.get_params()) - {"method", "settings"}


def test_connr_is_a_preset(images):
    """The same weights as the recipe's own method asked for by name, and of `connr` over it."""
    from connr import recipe

    settings = [f"{key}={value}" for key, value in SMALL.items()] + ["method.group.neighbourhood.k1=5"]
    plain = ConNR(4, recipe.load("digits", settings), epochs=2).fit(images)
    named = DeepClusterer("connr", 4, "digits", {**SMALL, "method.group.neighbourhood.k1": 5}, epochs=2).fit(images)
    assert plain.recipe_ == named.recipe_
    assert np.array_equal(plain.cluster_centers_, named.cluster_centers_)
    assert named.recipe_.method.base.target_momentum == 0.98  # the recipe's section is kept


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"method": "skan"}, r"method 'skan' is not one of: .* Did you mean scan"),
        ({"settings": {"method.temperatur": 1}, "method": "idfd"}, r"method.temperatur is not a key. Did you mean"),
        ({"settings": {"method.temperature": object()}, "method": "idfd"}, r"settings\['method.temperature'\] is a object"),
    ],
)
def test_what_cannot_be_is_named(images, parameters, what):
    with pytest.raises(InputError, match=what):
        DeepClusterer(**parameters, recipe="digits").fit(images)


def test_a_method_of_ones_own_by_import_on_two_processes(tmp_path):
    """In a script: the file is imported as any module is, here and in the processes that share a batch."""
    shutil.copy(TOY, tmp_path / "toy_method.py")
    (tmp_path / "user.py").write_text(
        "import sys, numpy as np, toy_method\n"
        "from sklearn.datasets import load_digits\n"
        "from connr import DeepClusterer\n"
        "if __name__ == '__main__':\n"
        "    images = (load_digits().images[:150] * 15).astype('uint8')\n"
        f"    settings = {SMALL | {'method.width': 8}!r}\n"
        "    for devices in (1, 2):\n"
        "        model = DeepClusterer('toy', 4, 'digits', settings, epochs=1, devices=devices).fit(images)\n"
        "        assert (model.predict(images) == model.labels_).all()\n"
        "        print(type(model.recipe_.method).__module__, len(set(model.labels_)))\n"
    )
    line = [sys.executable, str(tmp_path / "user.py")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "toy_method 4\n" * 2
    assert importlib.util.find_spec("toy_method") is None  # it was found beside the script, not in this process
