import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from connr import experiment, recipe, runs
from connr.registry import METHODS, NEIGHBOURHOODS, import_plugin

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


@pytest.mark.parametrize("package", ["losses", "neighbours", "methods"])
def test_the_python_reference_has_every_public_name(package):
    module = import_module(f"connr.{package}")
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert [name for name in module.__all__ if name != "register" and f":: connr.{package}.{name}\n" not in page] == []


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


CONTRIBUTING = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
TOY = DOCS.parent / "examples" / "toy_method.py"


def blocks(kind):
    """The Python of CONTRIBUTING.md marked with `kind`."""
    return re.findall(rf"```python {kind}\n(.*?)```", CONTRIBUTING, re.DOTALL)


@pytest.fixture
def own_registries(monkeypatch):
    """Plug-ins that a test registers are gone after it."""
    for registry in (METHODS, NEIGHBOURHOODS):
        list(registry)  # imports those of the package
        monkeypatch.setattr(registry, "_found", dict(registry._found))
    yield
    for name in [name for name in sys.modules if name.startswith("connr_plugin_toy_method")]:
        del sys.modules[name]


def test_contributing_shows_the_toy_method_as_it_stands():
    assert blocks("method") == [TOY.read_text(encoding="utf-8")]


@pytest.mark.usefixtures("own_registries")
def test_the_method_of_contributing_trains(few_digits):
    import_plugin(str(TOY))
    toy = recipe.load("digits", ["method=toy", "method.width=24", "train.epochs=2", "train.batch_size=64", "backbone.width=8"])
    fitted = runs.fit(toy, few_digits)
    method = experiment.build(toy)
    assert type(method) is METHODS["toy"]
    assert [record["stage"] for record in fitted.history] == ["contrast"] * 2
    assert fitted.history[1]["loss"] < fitted.history[0]["loss"]
    assert fitted.model.representation(torch.zeros(2, 1, 8, 8)).shape == (2, 24)


@pytest.mark.usefixtures("own_registries")
def test_the_neighbourhood_of_contributing_trains(tiny, few_digits):
    names: dict[str, object] = {"__name__": "ring"}
    for block in blocks("neighbourhood"):
        exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    assert names["ring"](torch.zeros(4, 2), 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]
    ring = runs.fit(recipe.load(tiny, ["method.group.neighbourhood={name: ring, k: 3}"]), few_digits)
    plain = runs.fit(tiny, few_digits)
    assert ring.history[2]["loss"] == plain.history[2]["loss"]
    assert ring.history[-1]["loss"] != plain.history[-1]["loss"]
