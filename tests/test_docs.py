import re
from importlib import import_module
from pathlib import Path

import pytest

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
        find("connr.boundary.nothing")


def test_presets_differ_as_the_table_of_deviations_says():
    text = (DOCS / "deviations.md").read_text(encoding="utf-8")
    for setting in ("cosine_reaches_zero: false", "loss_mean: all", "sigma_too: false", "reseed_empty: false"):
        key, value = setting.split(": ")
        released = (DOCS.parent / "src/connr/recipes/presets/released.yaml").read_text(encoding="utf-8")
        assert setting in text
        assert f"{key}: {value}" in released
