"""Several threads in one process: predictions on one model, and fits, are those of one thread alone."""

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import threads
import torch
from conftest import TINY
from torch import nn

from connr import ConNR, experiment, recipe
from connr.data import open_images
from connr.engine.extraction import evaluating
from connr.integrations import embeddings
from connr.networks import torchvision
from connr.randomness import deterministic, seeded_initialisation


@pytest.fixture(scope="module")
def images(few_digits):
    return few_digits.images.squeeze(1).numpy()


@pytest.fixture(scope="module")
def fitted(images):
    return ConNR(8, recipe.load("digits", TINY), epochs=2).fit(images)


def test_a_fitted_model_is_in_evaluation_mode_for_good(fitted, images, tmp_path):
    fitted.save(tmp_path / "model")
    for model in (fitted, ConNR.load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        assert not any(module.training for module in model.model_.representation.modules())
        model.predict(images)
        assert not any(module.training for module in model.model_.representation.modules())


def test_a_pickle_of_a_network_in_training_mode_predicts_the_same(fitted, images):
    """As version 0.1 wrote them."""
    fitted.model_.representation.train()
    try:
        content = pickle.dumps(fitted)
    finally:
        fitted.model_.representation.eval()
    again = pickle.loads(content)
    assert np.array_equal(again.predict(images), fitted.predict(images))
    assert threads.state(again) == threads.state(fitted)


def test_eight_threads_that_predict_are_one(fitted):
    """`python benchmarks/threads.py` does more of it."""
    images = open_images("digits", 8, 1).images.squeeze(1).numpy()
    assert threads.predictions(fitted, images, trials=5) == (0, 0)


def test_fits_in_threads_are_the_fit_alone(images):
    assert threads.fits(images, recipe.load("digits", TINY), trials=1, epochs=1) == 0


def test_weights_are_those_of_the_seed_whatever_another_thread_draws():
    """The other thread draws right between two layers, and gets what it would get alone."""

    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 4)
            turns.wait()
            turns.wait()
            self.last = nn.Conv2d(1, 2, 3)

    def build():
        with seeded_initialisation(7):
            return Between()

    turns = threading.Barrier(1)
    alone = build().state_dict()
    turns = threading.Barrier(2)
    torch.manual_seed(5)
    with ThreadPoolExecutor() as pool:
        built = pool.submit(build)
        turns.wait(30)
        drawn = torch.rand(4)
        turns.wait(30)
        both = built.result(30).state_dict()
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(4))
    assert all(torch.equal(alone[name], both[name]) for name in alone)


@pytest.mark.parametrize("build", ["simsiam", "moco", "mobilenet_v3_small", "swin_t", "vit_tiny_patch16_224", "convnext_atto"])
def test_initialisers_draw_from_the_seed_alone(build):
    """Also those of torchvision and timm, which have their own: the global generator is neither read nor moved."""

    def built():
        if build in ("simsiam", "moco"):
            return experiment.build(recipe.load("digits", [*TINY, f"framework.name={build}"]))
        with seeded_initialisation(3):
            if build in ("vit_tiny_patch16_224", "convnext_atto"):
                return pytest.importorskip("timm").create_model(build, pretrained=False)
            return torchvision.rebuild({"kind": "torchvision", "name": build})

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = built().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = built().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_of_a_seed_are_those_of_the_global_generator_with_it():
    """So that runs of before keep their weights."""
    from connr.randomness import derive

    with seeded_initialisation(3):
        ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5)), torch.randn(6)
    torch.manual_seed(derive(3, "weights"))
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5)), torch.randn(6)
    assert all(torch.equal(a, b) for a, b in zip(ours[0].parameters(), theirs[0].parameters(), strict=True))
    assert torch.equal(ours[1], theirs[1])


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    network[1][0].eval()  # frozen, within a network that trains
    with suppress(ZeroDivisionError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise ZeroDivisionError
    assert [module.training for module in network.modules()] == [True, True, True, False, True]
    assert embeddings.evaluating is evaluating


def test_a_deterministic_run_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_deterministic_holds_until_the_last_of_two_threads_is_done():
    first, second = deterministic(True), deterministic(True)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.are_deterministic_algorithms_enabled()
    second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()
