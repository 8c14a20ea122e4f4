import re
from pathlib import Path

import pytest

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
