import re
import tomllib
from pathlib import Path

import pytest

from connr.registry import METHODS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_readme_runs_and_clusters_the_digits(tmp_path, monkeypatch):
    """The whole recipe at its full length, one seed; `benchmarks/digits.py` gives the mean over seeds 0-4."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["model"].score(names["images"], names["digits"].target) >= 0.95


def test_the_map_of_the_readme_names_what_is_there():
    root = Path(__file__).parent.parent / "src" / "connr"
    block = README[README.index("src/connr/\n") :].split("```")[0]
    named = {word.rstrip("/") for word in re.findall(r"^  ([\w./*]+)", block, re.MULTILINE)}
    there = {path.name for path in root.iterdir() if not path.name.startswith(("__", "py.typed"))}
    assert {name.split("/")[0] for name in named} == there


def test_the_readme_lists_every_method():
    """Those of the package: in the table of methods, and in the line of `methods/`."""
    ours = {name for name, kind in METHODS.items() if kind.__module__.startswith("connr.")}
    table = README[README.index("## Methods") : README.index("## What to expect")]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == ours
    (line,) = re.findall(r"^  methods/ .*?: (.*);", README, re.MULTILINE)
    assert set(line.split(" · ")) == ours


def test_architecture_shows_the_layers_of_the_import_linter():
    root = Path(__file__).parent.parent
    layers = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0][
        "layers"
    ]
    block = (root / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    shown = re.findall(r"^(\w+(?: \| \w+)*)", block, re.MULTILINE)
    assert shown == layers
