"""`make bench` at sizes at which no figure means anything: every script runs, and the page is made of what they find."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ALL = Path(__file__).parent.parent / "benchmarks" / "all.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["step", "step-bf16", "contextual", "neighbours", "kmeans", "predict", "augment-sizes", "decode", "fuzz"]
)
def test_a_benchmark_runs_and_is_told(name, tmp_path):
    if name == "kmeans":
        pytest.importorskip("faiss")
    command = [sys.executable, str(ALL), "--quick", "--only", name, "--into", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "benchmarks.json").read_text())
    assert list(found) == [name]
    assert set(found[name]) == {"command", "took", "found", "machine", "python", "versions", "commit"}
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert f"`{found[name]['command']}`" in page
    assert page.count("| what | found | target | |") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("report", ["--images", "60", "--clusters", "3"], "of which neighbours among all of them: features "),
        (
            "variants",
            [
                "--limit",
                "200",
                "--seeds",
                "1",
                "--rounds",
                "1",
                "--variant",
                "bf16: train.precision=bf16-mixed",
                "--set",
                "train.epochs=2",
            ],
            "| bf16 | ",
        ),
    ],
)
def test_a_script_of_its_own_runs(script, arguments, told):
    command = [sys.executable, str(ALL.with_name(f"{script}.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told in done.stdout


def test_a_missed_target_is_named_with_its_reason():
    names = runpy.run_path(str(ALL))
    row = {"n": 4096, "milliseconds": 200.0, "sets_that_differ": 0, "dense": {"times_faster": 7.0, "all": [6.0, 8.0]}}
    result = {"command": "c", "took": 1.0, "machine": "m", "python": "3", "versions": {}, "commit": "0"}
    missed = names["page"]({"contextual": {**result, "found": [row]}})
    assert "| 4,096 images | 200.0 ms; 7.0× the dense (6.0–8.0); 0 sets differ | ≥ 10× | **missed** |" in missed
    assert "- Contextual neighbours of a batch, 4,096 images: 200.0 ms" in missed
    met = names["page"]({"contextual": {**result, "found": [{**row, "dense": {"times_faster": 17.0, "all": [17.0]}}]}})
    assert "Figures with a target: 1, of which missed: 1. Figures without: 0. Not run: A training step, " in missed
    assert "**missed**" not in met
    assert "Figures with a target: 1, of which missed: 0. Figures without: 0." in met


def test_the_committed_page_is_what_its_figures_and_targets_make():
    results = json.loads((ALL.parent.parent / "docs" / "benchmarks.json").read_text(encoding="utf-8"))
    committed = (ALL.parent.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert committed == runpy.run_path(str(ALL))["page"](results)


def test_a_page_of_nothing_claims_nothing():
    page = runpy.run_path(str(ALL))["page"]({})
    assert "Not run yet" in page
    assert "missed" not in page
