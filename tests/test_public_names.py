"""The names of `connr`: listed, imported when asked for, known to type checkers; those of 0.1 warn and work."""

import ast
import shutil
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch

import connr
from connr import deprecated, losses, schedules
from connr.clustering import boundary
from connr.neighbours import contextual

STUB = Path(connr.__file__).with_suffix(".pyi")
FEATURES = torch.nn.functional.normalize(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def test_dir_has_all_public_names_and_each_is_there():
    assert set(connr.__all__) <= set(dir(connr))
    for name in connr.__all__:
        assert getattr(connr, name)
    assert {"ConNR", "DeepClusterer", "ConNRLoss", "losses", "neighbours", "clustering", "metrics", "methods"} < set(
        dir(connr)
    )
    assert connr.losses is losses
    with pytest.raises(AttributeError, match="'connr' has no attribute 'ConRN'"):
        connr.ConRN  # noqa: B018 - the look-up is what is tested


def test_importing_connr_does_not_import_torch():
    code = "import sys, connr; dir(connr); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_stub_has_the_same_names_and_no_fallback():
    tree = ast.parse(STUB.read_text())
    imported = {each.asname for node in tree.body if isinstance(node, ast.ImportFrom) for each in node.names}
    assert imported | {"__version__"} == set(connr.__all__)
    assert not [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_a_misspelt_name_is_an_error_to_mypy(tmp_path):
    """By the stub as it is; what it imports is left out, so that torch need not be read."""
    pytest.importorskip("mypy")
    (tmp_path / "connr").mkdir()
    shutil.copy(STUB, tmp_path / "connr")
    (tmp_path / "user.py").write_text("import connr\nconnr.ConNR\nconnr.losses\nconnr.ConRN\n")
    line = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    faults = [line for line in done.stdout.splitlines() if line.startswith("user.py")]
    assert len(faults) == 1
    assert 'user.py:4: error: Module has no attribute "ConRN"' in faults[0]


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in deprecated.MOVED.items() for n in names])
def test_a_name_of_0_1_warns_where_it_is_now(module, name):
    home, _, new = deprecated.MOVED[module][name].partition(":")
    with pytest.warns(DeprecationWarning, match=rf"{module}.{name} is now {home}.{new}; .* removed in 0.3"):
        found = getattr(import_module(module), name)
    now = getattr(import_module(home), new)
    assert found is now or found.__wrapped__ is now


def test_the_warning_names_the_line_that_uses_the_old_name(tmp_path):
    (tmp_path / "user.py").write_text("import sys\nfrom connr.kmeans import kmeans\n")
    done = subprocess.run(
        [sys.executable, "-W", "always", str(tmp_path / "user.py")], capture_output=True, text=True, check=True
    )
    assert f"{tmp_path / 'user.py'}:2: DeprecationWarning: connr.kmeans.kmeans is now" in done.stderr


def test_code_written_for_0_1_gives_the_same_numbers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from connr.algorithm import ConNRLoss, group_loss
        from connr.boundary import boundary_ratio, keep
        from connr.kmeans import kmeans
        from connr.neighbourhoods import contextual as old_contextual
    clusters = kmeans(FEATURES, 3, generator=torch.Generator().manual_seed(1))
    ratios = boundary_ratio(FEATURES, clusters.centroids, clusters.assignments)
    assert torch.equal(keep(ratios, 0.5, sigma_too=False), boundary.keep(ratios, 0.5, inclusive_threshold=False))
    assert torch.equal(old_contextual(FEATURES, k=5, k1=5), contextual(FEATURES, k=5, k1=5))
    pairs, kept = torch.arange(6.0).reshape(3, 2), torch.tensor([True, False, True])
    assert float(group_loss(pairs, kept)) == float(losses.group_mean(pairs, kept)) == 2.5
    assert ConNRLoss is connr.ConNRLoss


@pytest.mark.parametrize("name", sorted(deprecated.REPLACED))
def test_a_name_that_takes_other_arguments_is_refused_with_the_new_one(name):
    module, _, last = name.rpartition(".")
    with pytest.raises(ImportError, match=r"takes other arguments since 0\.2; use connr"):
        exec(f"from {module} import {last}")
    found = deprecated.REPLACED[name].partition("(")[0]
    home, _, new = found.rpartition(".")
    assert hasattr(import_module(home), new)


def test_a_module_of_0_1_has_no_other_names():
    with warnings.catch_warnings(), pytest.raises(AttributeError, match=r"'connr\.kmeans' has no attribute 'nothing'"):
        import_module("connr.kmeans").nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        import_module("connr.kmeanz")


def test_the_target_momentum_refuses_the_arguments_of_0_1():
    assert schedules.target_momentum(1.0, 0.9) == 1.0
    with pytest.raises(ValueError, match=r"progress=3 should be in \[0, 1\]: finished steps / all steps"):
        schedules.target_momentum(3, 10, 0.9)
    with pytest.raises(ValueError, match=r"initial=10 should be in \[0, 1\]"):
        schedules.target_momentum(0, 10, 0.9)
