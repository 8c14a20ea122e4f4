"""Shared by all tests: few threads, inputs with exact ties, a recipe and images small enough to train in seconds."""

import os
import random
import tempfile
from contextlib import nullcontext
from pathlib import Path

import last_bits
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from connr import recipe
from connr.data import ImageSet, open_images

settings.register_profile("connr", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("connr")
os.environ["TORCH_HOME"] = os.environ["HF_HUB_CACHE"] = str(Path(tempfile.gettempdir()) / "connr-tests-have-no-weights")
THREADS = os.environ.get(
    "CONNR_TEST_THREADS", "1"
)  # several processes run tests; a batch of 8 x 8 images gains nothing from more
torch.set_num_threads(int(THREADS))
os.environ["OMP_NUM_THREADS"] = THREADS  # nor do the commands and scripts that tests start


def seed_global_generators():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what is seeded
    torch.manual_seed(0)


def numpy_and_torch_states():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return (name, keys.tolist(), *rest), torch.get_rng_state().tolist()


# No test depends on what the global generators held before it: they are seeded before each test, and before each fixture
# that several tests share, as tests run in any order and in several processes.


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    seed_global_generators()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    if fixturedef.scope == "function":
        return (yield)
    seed_global_generators()
    try:
        return (yield)
    finally:
        seed_global_generators()


# Modules whose tests together take about a minute of one core: the mathematics, the data, runs of seconds, the digests.
FAST = [
    "assigners",
    "augment",
    "boundary",
    "cluster_numbers",
    "data",
    "dataset",
    "digests",
    "kmeans",
    "metrics",
    "neighbourhoods",
    "optimizers",
    "pair_methods",
    "ranks",
    "recipe",
    "registry",
    "report",
    "rows",
    "run",
    "schedules",
    "seeds",
    "three_proofs",
    "timeline",
    "update",
]


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem.removeprefix("test_") in FAST and not item.get_closest_marker("slow"):
            item.add_marker("fast")


STATES = []


def pytest_sessionstart():
    seed_global_generators()
    STATES.append(numpy_and_torch_states())


def pytest_collection_finish():
    """Refuses modules that draw from a global generator as they are imported, where the order of modules decides.

    Python's own is left out: packages draw from it as they are imported.
    """
    if numpy_and_torch_states() != STATES[0]:
        raise pytest.UsageError(
            "a test module draws from a global generator as it is imported; give it a generator of its own"
        )


@st.composite
def tied_features(draw, smallest=1, largest=20):
    """Unit vectors of 4 numbers among 24, so that products are exact and ties and duplicates the rule. (b 4) float64."""
    corners = [[(1 if bits >> axis & 1 else -1) / 2 for axis in range(4)] for bits in range(16)]
    axes = [[float(sign * (axis == at)) for axis in range(4)] for at in range(4) for sign in (1, -1)]
    rows = draw(st.lists(st.sampled_from(corners + axes), min_size=smallest, max_size=largest))
    return torch.tensor(rows, dtype=torch.float64)


def unit_rows(b, d, seed):
    rows = torch.randn(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.fixture(autouse=True, scope="session")
def _last_bits():
    """With CONNR_TEST_ULP_NOISE=1 every product in this process has other last bits, as on another processor."""
    with last_bits.moved() if os.environ.get("CONNR_TEST_ULP_NOISE") == "1" else nullcontext():
        yield


@pytest.fixture(scope="module", params=["own", "moved"])
def either_products(request):
    """Tests of a module run twice: with this machine's products, and with other last bits."""
    with last_bits.moved() if request.param == "moved" else nullcontext():
        yield


@pytest.fixture(autouse=True)
def _views_of_frozen_backbones(tmp_path, monkeypatch):
    """Each test has a cache of its own."""
    monkeypatch.setenv("CONNR_CACHE", str(tmp_path / "connr-cache"))


TINY = (
    "train.epochs=5",
    "group.neighbourhood.k=10",
    "group.neighbourhood.k1=10",
    "train.group_from=0.6",
    "train.batch_size=64",
    "train.evaluate_every=2",
    "train.keep_checkpoints=0",
    "backbone.width=8",
    "framework.hidden=32",
    "framework.out=16",
)


@pytest.fixture
def tiny():
    """digits, 3 + 2 epochs with a network of a few thousand weights."""
    return recipe.load("digits", TINY)


@pytest.fixture(scope="session")
def few_digits() -> ImageSet:
    whole = open_images("digits", 8, 1)
    return ImageSet(whole.images[:400], whole.names[:400], whole.labels[:400], whole.class_names)


@pytest.fixture
def pictures(tmp_path):
    """A folder of 24 small JPEGs and PNGs in two subfolders, and one flat."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for index in range(24):
        place = folder / ("warm", "cold", ".")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02d}.{'jpg' if index % 2 else 'png'}")
    return folder


@pytest.fixture(scope="session")
def coloured(tmp_path_factory):
    """60 noisy pictures in three colours, in two subfolders that hold files of the same names. Not to be changed."""
    from PIL import Image

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "coloured"
    for index in range(60):
        place = folder / ("a", "b")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        colour = np.zeros((20, 24, 3)) + np.eye(3)[index % 3] * 180
        pixels = np.clip(colour + rng.normal(0, 40, colour.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index // 2:02d}.png")
    return folder


COLOURED = (
    "data.size=16",
    "train.epochs=2",
    "group.neighbourhood.k=5",
    "group.neighbourhood.k1=5",
    "backbone.width=4",
    "backbone.stages=2",
    "framework.hidden=16",
    "framework.out=8",
)


@pytest.fixture(scope="session")
def coloured_run(tmp_path_factory, coloured):
    """The run folder of 3 clusters of `coloured`. Not to be changed."""
    from connr import ConNR

    path = tmp_path_factory.mktemp("run") / "run"
    ConNR(3, recipe.load("photos", COLOURED), out=path).fit(coloured)
    return path
