"""A comparison of all recipes with the values after `extends` and defaults: docs/recipes.md."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connr.recipe.crowding import crowded
from connr.recipe.reading import load, names
from connr.recipe.recipe import Recipe

Values = dict[str, Any]  # dotted key -> value

NOT_SHOWN = ("description", "seed")
SECTIONS = {  # a table for each: its title and its keys
    "Data and networks": ("clusters", "data.", "backbone.", "method.name", "method.base."),
    "Training": ("train.", "kmeans.", "log"),
    "Views of images": ("augment.", "weak.", "strong."),
    "Views of rows of features": ("feature_views.", "prefer_if_cached"),
    "ConNR: where its phases part": ("method.start", "method.loss_mean"),
    "ConNR, phase `instance`": ("method.instance.",),
    "ConNR, phase `group`": ("method.group.",),
    "Numbers of the other methods": ("method.",),
}
HEAD = """# All recipes, all values

Made by `connr recipes table`, of the recipes as they are run: with what they extend, and with defaults. `connr recipes show
NAME` shows one as it is written.

## At a glance
lr is train.base_lr · batch / 256. *images* is batch / clusters: the images of a cluster of mean size in a batch. Where k is
larger, marked !, some neighbours must be of other clusters; `method.group.memory` is the way out.
"""


def markdown() -> str:
    """The whole page."""
    recipes = {name: load(name) for name in names()}
    values = {name: flat(r.model_dump(mode="json")) for name, r in recipes.items()}
    varying = [
        key for key in _keys(values) if key not in NOT_SHOWN and len({_cell(v.get(key, "")) for v in values.values()}) > 1
    ]
    lines = [HEAD, *_table({name: _glance(r) for name, r in recipes.items()})]
    shown = set[str]()
    for title, prefixes in SECTIONS.items():
        keys = [key for key in varying if key.startswith(prefixes) and key not in shown]
        shown.update(keys)
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
    method: Any = r.method.model_dump()
    phases = [method.get(phase, {}) for phase in ("instance", "group")]
    near = phases[1].get("neighbourhood", {})
    crops = [_cell(phase.get("crop_scale") or r.augment.crop_scale) for phase in phases]
    images = f"{r.train.batch_size / r.clusters:.1f}" if r.clusters else "–"
    t0 = round(method.get("start", 1) * r.train.epochs)
    alone = t0 == r.train.epochs
    return {
        "clusters": r.clusters,
        "size": "rows" if r.takes_features else r.data.size or "the backbone's",
        "backbone": r.backbone.name,
        "method": " + ".join(part for part in (_name(method.get("base")), method["name"]) if part),
        "epochs": r.train.epochs,
        "t0": t0,
        "batch": r.train.batch_size,
        "lr": f"{r.train.base_lr * (r.train.batch_size / r.train.reference_batch if r.train.reference_batch else 1):g}",
        "crop scale, instance": "–" if r.takes_features else crops[0],
        "group": "–" if alone or r.takes_features else crops[1],
        "neighbours": "–" if alone else near.get("name", "–"),
        **{size: "–" if alone else near.get(size, "–") for size in ("k", "k1", "k2")},
        "memory": "–" if alone else phases[1].get("memory", 0),
        "images": images + (" !" if crowded(r) else ""),
    }


def _name(base: Any) -> str | None:
    """Of the method that another one is built on: a section, or the name itself."""
    return base.get("name") if isinstance(base, Mapping) else base


def _keys(values: Mapping[str, Values]) -> list[str]:
    """The values of a section in all recipes."""
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
