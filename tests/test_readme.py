import re
from pathlib import Path

import pytest

from connr import experiment  # noqa: F401 - imports every framework
from connr.frameworks.framework import Framework

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


def test_readme_and_architecture_name_every_framework():
    root = Path(__file__).parent.parent
    frameworks = [path.stem for path in (root / "src" / "connr" / "frameworks").glob("*.py") if path.stem != "__init__"]
    line = re.search(r"^  frameworks/ .*", README, re.MULTILINE)
    assert line
    assert [name for name in frameworks if not re.search(rf"\b{name}\b", line[0])] == []
    row = re.search(r"^\| framework \|.*", (root / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert row
    ours = {kind.__name__ for kind in Framework.__subclasses__() if kind.__module__.startswith("connr.")}
    assert len(ours) >= 3
    assert [name for name in ours if f"`{name}`" not in row[0]] == []
