"""All registered methods as rows of a table, and as the documentation's page of methods."""

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from connr.methods.method import Method, Phase, Setup
from connr.randomness import seeded_initialisation
from connr.recipe.plugins import MethodConfig
from connr.recipe.reading import load, names
from connr.registry import METHODS

BASE = "byol"  # of a method that is built on another one
REFERENCE = re.compile(r"\(([^()]*\b(?:19|20)\d\d)\)")
HEAD = """# All methods

Made by `connr methods --markdown`, of the methods that are registered. `connr fit DATA --set method=NAME` runs one with the
numbers below; `--set method.KEY=VALUE` changes one. A method of your own appears here too: see [Adding a method](adding.md).
"""


class Entry(NamedTuple):
    """A method as it is with the defaults of its config.

    Attributes:
        name: the registry's.
        idea: the first line of its module's docstring.
        reference: authors and year; "" where that line has none.
        phases: their names, in order.
        shares: of the epochs, in [0, 1], one for each phase.
        views: those that each phase draws, such as `random random`.
        assigner: the class that turns features into clusters.
        module: where it is.
    """

    name: str
    idea: str
    reference: str
    phases: list[str]
    shares: list[float]
    views: list[str]
    assigner: str
    module: str


def entries() -> list[Entry]:
    """One for each registered method, by name."""
    return [entry(name) for name in METHODS]


def entry(name: str) -> Entry:
    """A registered method.

    Raises:
        InputError: there is no such method.
    """
    method, (idea, *_) = default(name), described(METHODS[name])
    phases = method.phases()
    found = REFERENCE.search(idea)
    return Entry(
        name,
        REFERENCE.sub("", idea, count=1).replace(" :", ":").strip() if found else idea,
        found[1] if found else "",
        [phase.name for phase in phases],
        [round(phase.share / sum(each.share for each in phases), 4) for phase in phases],
        [views_of(phase) for phase in phases],
        type(method.assigner()).__name__,
        METHODS[name].__module__,
    )


def described(kind: type[Method]) -> list[str]:
    """The lines of the docstring of a method's module, or of the method where its module has none."""
    return inspect.cleandoc(sys.modules[kind.__module__].__doc__ or kind.__doc__ or "").splitlines() or [""]


def default(name: str) -> Method:
    """The method with its config's defaults, on an encoder that does nothing."""
    kind: type[Method] = METHODS[name]
    given: dict[str, Any] = {"base": BASE} if "base" in required(kind.Config) else {}
    with seeded_initialisation(0):
        method: Method = kind(kind.Config.model_validate({"name": name, **given}), Setup(nn.Identity(), 8, 2, 2))
    return method


def required(config: type[MethodConfig]) -> list[str]:
    """The keys of a section that have no default."""
    return [key for key, field in config.model_fields.items() if field.is_required()]


def views_of(phase: Phase) -> str:
    """The views that a phase draws, in order."""
    return " ".join(view.kind + (" of a neighbour" if view.of == "neighbour" else "") for view in phase.views.values())


def markdown() -> str:
    """The whole page, of the methods that come with connr and those of others."""
    lines = [HEAD, "| method | idea | phases | views | assigner | reference |", "|---|---|---|---|---|---|"]
    for one in entries():
        cells = [f"[`{one.name}`](#{one.name})", *(cell(text) for text in row(one)[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    for one in entries():
        lines += ["", *_section(one)]
    return "\n".join(lines) + "\n"


def row(one: Entry) -> list[str]:
    """An entry as texts: name, idea, phases with their shares, views, assigner, reference."""
    several = len(one.phases) > 1
    phases = [f"{name} {share:.0%}" if several else name for name, share in zip(one.phases, one.shares, strict=True)]
    return [one.name, one.idea, ", ".join(phases), "; ".join(dict.fromkeys(one.views)), one.assigner, one.reference]


def cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def _section(one: Entry) -> Iterator[str]:
    kind: type[Method] = METHODS[one.name]
    yield from (f"## {one.name}", "", "```text", *described(kind), "```", "")
    recipes = [name for name in names() if one.name in _names_in(load(name).method.model_dump())]
    yield f"Recipes: {', '.join(f'`{name}`' for name in recipes) or 'none of its own'}. Code: `{one.module}`."
    yield from ("", "| key | default |", "|---|---|")
    for key, field in kind.Config.model_fields.items():
        if key != "name":
            shown = "–" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
            yield f"| `method.{key}` | {shown} |"


def _names_in(section: dict[str, Any]) -> set[str]:
    """The method of a section, and what it is built on."""
    base = section.get("base")
    return {section["name"], *(_names_in(base) if isinstance(base, dict) else ())}


def _plain(value: Any) -> str:
    """A default as a recipe writes it."""
    if hasattr(value, "model_dump"):
        return "{" + ", ".join(f"{key}: {_plain(each)}" for key, each in value.model_dump().items()) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
