"""Tests do not depend on their order: the global generators are the same before each, and imports draw nothing from them."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


@pytest.fixture(params=["first", "second"])
def again():
    """Two tests, as what the first draws must not reach the second."""


@pytest.fixture(scope="module")
def shared():
    return drawn()


@pytest.mark.usefixtures("again")
def test_a_test_and_the_fixtures_it_shares_start_from_the_same_seed(shared):
    assert drawn() == shared


@pytest.mark.parametrize("draw", ["import torch; torch.rand(1)", "import numpy; numpy.random.rand()"])
def test_a_module_that_draws_as_it_is_imported_is_refused(tmp_path, draw):
    (tmp_path / "test_drawing.py").write_text(f"{draw}\n\n\ndef test_nothing(): ...\n")
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    helpers = f"pythonpath={Path(__file__).parent}"
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-o", helpers, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "draws from a global generator as it is imported" in done.stderr + done.stdout
