"""All recipes beside each other, every value as it is after `extends` and defaults: docs/recipes.md."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connr.recipe.crowding import crowded
from connr.recipe.reading import load, names
from connr.recipe.recipe import Recipe

Values = dict[str, Any]  # dotted key -> value

NOT_SHOWN = ("description", "seed")
SECTIONS = {  # a table for each: its title, and the keys that it is of
    "Data and networks": ("clusters", "data.", "backbone.", "framework."),
    "Training": ("train.", "kmeans.", "log"),
    "Views of images": ("augment.",),
    "Views of rows of features": ("feature_views.", "at_hand"),
    "Stage 1": ("instance.",),
    "Stage 2": ("group.",),
}
HEAD = """# All recipes, all values

Made by `connr recipes table`, of the recipes as they are run: with what they extend, and with defaults. `connr recipes show
NAME` shows one as it is written.

## At a glance
lr is train.base_lr · batch / 256. *images* is batch / clusters: the images of a cluster of mean size in a batch. Where k is
larger, marked !, some neighbours must be of other clusters; `group.memory` is the way out.
"""


def markdown() -> str:
    """The whole page."""
    recipes = {name: load(name) for name in names()}
    values = {name: flat(r.model_dump(mode="json")) for name, r in recipes.items()}
    varying = [
        key for key in _keys(values) if key not in NOT_SHOWN and len({_cell(v.get(key, "")) for v in values.values()}) > 1
    ]
    lines = [HEAD, *_table({name: _glance(r) for name, r in recipes.items()})]
    for title, prefixes in SECTIONS.items():
        keys = [key for key in varying if key.startswith(prefixes)]
        lines += ["", f"## {title}", *_table({name: {key: v.get(key, "") for key in keys} for name, v in values.items()})]
    same = {key: value for key, value in next(iter(values.values())).items() if key not in (*varying, *NOT_SHOWN)}
    lines += ["", "## The same in all recipes", "| key | value |", "|---|---|"]
    lines += [f"| `{key}` | {_cell(value)} |" for key, value in same.items()]
    return "\n".join(lines) + "\n"


def flat(branch: Mapping[str, Any], prefix: str = "") -> Values:
    """{a.b: value} of nested sections."""
    found: Values = {}
    for key, value in branch.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _glance(r: Recipe) -> Values:
    near = r.group.neighbourhood.model_dump()
    crops = [_cell(stage.crop_scale or r.augment.crop_scale) for stage in (r.instance, r.group)]
    images = f"{r.train.batch_size / r.clusters:.1f}" if r.clusters else "–"
    alone = r.t0 == r.train.epochs
    return {
        "clusters": r.clusters,
        "size": "rows" if r.takes_features else r.data.size or "the backbone's",
        "backbone": r.backbone.name,
        "framework": r.framework.name,
        "epochs": r.train.epochs,
        "t0": r.t0,
        "batch": r.train.batch_size,
        "lr": f"{r.train.base_lr * r.train.batch_size / 256:g}",
        "crop scale, stage 1": "–" if r.takes_features else crops[0],
        "stage 2": "–" if alone or r.takes_features else crops[1],
        "neighbours": "–" if alone else near["name"],
        **{size: "–" if alone else near.get(size, "–") for size in ("k", "k1", "k2")},
        "memory": "–" if alone else r.group.memory,
        "images": images + (" !" if crowded(r) else ""),
    }


def _keys(values: Mapping[str, Values]) -> list[str]:
    """Of all recipes, those of a section beside each other."""
    found: dict[str, None] = {}
    for one in values.values():
        found |= dict.fromkeys(one)
    sections = list(dict.fromkeys(key.partition(".")[0] for key in found))
    return sorted(found, key=lambda key: sections.index(key.partition(".")[0]))


def _table(rows: Mapping[str, Values]) -> Iterator[str]:
    """A row for each recipe, a column for each key."""
    columns = list(next(iter(rows.values())))
    yield _row(["recipe", *columns])
    yield "|---" * (1 + len(columns)) + "|"
    for name, row in rows.items():
        yield _row([f"`{name}`", *map(_cell, row.values())])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return str(value)
