"""The estimator within programs of others: their settings of torch, their forks, their labels."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TINY
from sklearn.datasets import load_digits

from connr import ConNR, metrics, recipe
from connr.errors import InputError

SMALL = recipe.load("digits", [*TINY, "train.epochs=1"])


@pytest.fixture(scope="module")
def images():
    return (load_digits().images[:300] * 15).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted(images):
    return ConNR(8, SMALL).fit(images)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_fit_where_gradients_are_switched_off_around_it(fitted, images, around):
    with around():
        model = ConNR(8, SMALL).fit(images)
        assert not torch.is_grad_enabled()
    assert np.array_equal(model.labels_, fitted.labels_)
    assert np.array_equal(model.predict(images), fitted.labels_)


def test_double_precision_by_default_changes_nothing(fitted, images, tmp_path):
    fitted.save(tmp_path / "model")
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(fitted.predict(images), fitted.labels_)
        assert np.array_equal(ConNR.load(tmp_path / "model").predict(images), fitted.labels_)
        assert np.array_equal(ConNR(8, SMALL).fit(images).labels_, fitted.labels_)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_text_labels_are_scored(fitted, images):
    digits = load_digits().target[:300]
    expected = metrics.accuracy(digits, fitted.labels_)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[digits]
    for y in (names, list(names), names.astype(object), digits.astype(float)):
        assert fitted.score(images, y) == expected
    known = np.where(np.arange(300) < 100, names, "")
    assert fitted.score(images, known) == metrics.accuracy(digits[:100], fitted.labels_[:100])
    assert fitted.score(images, [name or None for name in known]) == fitted.score(images, known)


@pytest.mark.parametrize(
    ("y", "what"),
    [([1, 2], r"y has shape \[2\], should be one label for each of the 300"), (np.full(300, 0.5), "should be whole numbers")],
)
def test_labels_that_are_none_are_named(fitted, images, y, what):
    with pytest.raises(InputError, match=what):
        fitted.score(images, y)


@pytest.mark.parametrize("n_jobs", [4096, 10**9])
def test_more_threads_than_a_machine_can_run_are_refused(images, fitted, n_jobs):
    with pytest.raises(InputError, match=f"n_jobs={n_jobs} should be at most"):
        ConNR(8, SMALL, n_jobs=n_jobs).fit(images)
    with pytest.raises(InputError, match=f"n_jobs={n_jobs} should be at most"):
        ConNR(8, SMALL, n_jobs=n_jobs)._adopt(fitted.recipe_, fitted.model_).predict(images)


@pytest.mark.parametrize("X", [None, []], ids=str)
def test_nothing_to_fit_is_named(X):
    with pytest.raises(InputError, match=r"should be an array|holds no images"):
        ConNR(8, SMALL).fit(X)


def test_ways_out_are_those_of_python(images, fitted, tmp_path):
    with pytest.raises(InputError, match="give n_clusters"):
        ConNR(None, "photos").fit(images)
    path = tmp_path / "run"
    ConNR(8, SMALL, out=path).fit(images)
    with pytest.raises(InputError, match=r"holds a run already; choose another out\.$"):
        ConNR(8, SMALL, out=path).fit(images)
    with pytest.raises(InputError, match=r"holds a run already; choose another folder\.$"):
        fitted.save(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_predicts_after_a_fit_with_two_threads(tmp_path, images):
    """Torch's threads are not in it, and are not waited for."""
    np.save(tmp_path / "images.npy", images)
    code = (
        "import os, sys, time, numpy as np, torch\nfrom connr import ConNR, recipe\n"
        "images = np.load(sys.argv[1]); r = recipe.load('digits', sys.argv[2:])\n"
        "torch.set_num_threads(2)\n"
        "for n_jobs in (2, -1):\n"
        "    model = ConNR(8, r, n_jobs=n_jobs).fit(images)\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(0 if (model.predict(images) == model.labels_).mean() > 0.99 else 3)\n"
        "    end = time.monotonic() + 100\n"
        "    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end: time.sleep(0.05)\n"
        "    if not ended[0]: os.kill(child, 9)\n"
        "    assert ended == (child, 0), ended\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "images.npy"), *TINY, "train.epochs=1", "framework.hidden=512"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr
