import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from connr import experiment, runs

DOCS = Path(__file__).parent.parent / "docs"
TABLE = re.findall(r"^\| (.+?) \| (.+?) \| `(.+?)` \|$", (DOCS / "equations.md").read_text(encoding="utf-8"), re.MULTILINE)


def find(name):
    """The object of a dotted name: the longest module, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_every_equation_has_a_row():
    assert [int(equation) for equation, _, _ in TABLE if equation.isdigit()] == list(range(1, 18))


@pytest.mark.parametrize("name", sorted({name for _, _, name in TABLE}))
def test_what_is_named_is_there_and_documented(name):
    assert find(name).__doc__ or find(name.rpartition(".")[0]).__doc__


def test_a_name_that_is_gone_is_noticed():
    with pytest.raises(AttributeError):
        find("connr.clustering.boundary.nothing")


def test_presets_differ_as_the_table_of_deviations_says():
    text = (DOCS / "deviations.md").read_text(encoding="utf-8")
    for setting in ("cosine_reaches_zero: false", "loss_mean: all", "inclusive_threshold: false", "reseed_empty: false"):
        key, value = setting.split(": ")
        released = (DOCS.parent / "src/connr/recipes/presets/released.yaml").read_text(encoding="utf-8")
        assert setting in text
        assert f"{key}: {value}" in released


@pytest.fixture
def walk(monkeypatch):
    """Runs the blocks of one of CONTRIBUTING's walks and returns the names they define; the tables are put back."""
    monkeypatch.setattr(experiment, "FRAMEWORKS", dict(experiment.FRAMEWORKS))
    monkeypatch.setattr(experiment, "NEIGHBOURHOODS", dict(experiment.NEIGHBOURHOODS))
    text = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")

    def follow(name):
        names: dict[str, object] = {}
        for block in re.findall(rf"```python {name}\n(.*?)```", text, re.DOTALL):
            exec(compile(block, "CONTRIBUTING.md", "exec"), names)
        return names

    return follow


def test_a_framework_added_as_contributing_says_trains(walk, tiny, few_digits):
    names = walk("framework")
    toy = tiny.model_copy(update={"framework": names["ToySection"](name="toy")})
    fitted = runs.fit(toy, few_digits)
    assert isinstance(experiment.build(toy), names["Toy"])
    assert fitted.model.centroids.shape == (10, 16)
    assert [record["stage"] for record in fitted.history] == ["instance"] * 3 + ["group"] * 2


def test_a_neighbourhood_added_as_contributing_says_trains(walk, tiny, few_digits):
    names = walk("neighbourhood")
    assert names["ring"](torch.zeros(4, 2), 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]
    stage = tiny.group.model_copy(update={"neighbourhood": names["RingSection"](name="ring", k=3)})
    ring = runs.fit(tiny.model_copy(update={"group": stage}), few_digits)
    plain = runs.fit(tiny, few_digits)
    assert ring.history[2]["loss"] == plain.history[2]["loss"]
    assert ring.history[-1]["loss"] != plain.history[-1]["loss"]
