"""docs/recipes.md: what it says of each recipe is what the recipe is."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from connr import recipe
from connr.recipe.table import markdown

PAGE = (Path(__file__).parent.parent / "docs/recipes.md").read_text(encoding="utf-8")


def tables(page):
    """Title -> rows, each column -> cell."""
    found = {}
    for section in page.split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        lines = [re.split(r" ?\| ?", line)[1:-1] for line in rest.splitlines() if line.startswith("|")]
        found[title] = [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]
    return found


TABLES = tables(PAGE)


def said_of(name):
    """Dotted key -> cell, from all tables but the first."""
    found = {row["key"].strip("`"): row["value"] for row in TABLES["The same in all recipes"]}
    for title, rows in TABLES.items():
        if title not in ("At a glance", "The same in all recipes"):
            (row,) = [row for row in rows if row["recipe"] == f"`{name}`"]
            found |= row
    return found


def written(value):
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, tuple):
        return ", ".join(map(written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def values(section, prefix=""):
    """Dotted key -> value of a recipe, from its attributes."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            yield from values(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_the_page_is_that_of_the_recipes():
    assert markdown() == PAGE, "run: connr recipes table > docs/recipes.md"


@pytest.mark.parametrize("name", recipe.names())
def test_every_value_of_every_recipe_is_on_the_page(name):
    cells = said_of(name)
    for key, value in values(recipe.load(name)):
        if key not in ("description", "seed"):
            assert cells[key] == written(value), key


def test_the_first_table_has_what_a_reader_compares():
    rows = {row["recipe"].strip("`"): row for row in TABLES["At a glance"]}
    assert list(rows) == recipe.names()
    dogs, released = rows["imagenet-dogs"], rows["imagenet-dogs-released"]
    assert (dogs["k"], dogs["k1"], dogs["k2"], dogs["batch"], dogs["lr"], dogs["images"]) == (
        "20",
        "30",
        "10",
        "256",
        "0.05",
        "17.1 !",
    )
    assert (released["batch"], released["lr"], released["images"]) == ("512", "0.1", "34.1")
    assert (dogs["epochs"], dogs["t0"], dogs["backbone"], dogs["method"]) == ("1000", "800", "resnet34", "byol + connr")
    for name in ("cifar10", "cifar10-released", "cifar10-ln"):
        assert (rows[name]["crop scale, instance"], rows[name]["group"]) == ("0.08, 1", "0.45, 1")
    assert rows["cifar10-byol"]["k"] == rows["cifar10-byol"]["group"] == "–"
    assert (rows["cifar10-ln"]["neighbours"], rows["cifar10-ln"]["k1"]) == ("local", "–")
