"""`connr methods`, and the page of the documentation that it writes."""

import json
from pathlib import Path

import pytest
from test_toy_method import TOY, connr

from connr.methods.catalogue import entry
from connr.registry import METHODS

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"


def test_the_page_of_methods_is_what_the_command_writes():
    assert connr("methods", "--markdown", plugin=None) == PAGE.read_text(encoding="utf-8")


def test_json_lists_every_method_and_those_of_a_plugin():
    found = {each["name"]: each for each in json.loads(connr("methods", "--json", plugin=TOY))}
    own = {name for name, kind in METHODS.items() if kind.__module__.startswith("connr.methods.")}
    assert own | {"toy"} <= set(found)
    assert found["toy"]["phases"] == ["contrast"]
    assert found["toy"]["idea"].startswith("A method of one's own")
    assert found["byol"]["reference"] == "Grill et al. 2020"


@pytest.mark.parametrize(
    ("name", "phases", "shares", "views", "assigner"),
    [
        ("byol", ["instance"], [1], ["random random"], "Centroids"),
        ("connr", ["instance", "group"], [0.8, 0.2], ["random random"] * 2, "Centroids"),
        ("iic", ["cluster"], [1], ["weak random"], "Head"),
        (
            "scan",
            ["pretext", "cluster", "self_label"],
            [0.6667, 0.0667, 0.2667],
            ["random random", "weak weak of a neighbour", "weak strong"],
            "Head",
        ),
        ("idfd", ["discriminate"], [1], ["random"], "Centroids"),
    ],
)
def test_an_entry_says_what_the_method_declares(name, phases, shares, views, assigner):
    found = entry(name)
    assert (found.phases, found.shares, found.views, found.assigner) == (phases, shares, views, assigner)


def test_every_method_of_connr_has_its_idea_in_one_line_and_a_reference():
    for name, kind in METHODS.items():
        if kind.__module__.startswith("connr.methods."):
            found = entry(name)
            assert found.idea.endswith(".")
            assert found.reference
