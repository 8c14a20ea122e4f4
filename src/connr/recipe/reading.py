"""YAML -> `Recipe`: by name or file, with settings laid over it, every fault found at once."""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from connr.errors import InputError
from connr.recipe.recipe import Recipe
from connr.recipe.section import Section
from connr.recipe.stages import GroupStage, Stage


class RecipeError(InputError):
    """A recipe that cannot be run; the message lists every fault."""


MOST_BYTES = 2**16  # of a file
DEEPEST = 32  # levels of sections and lists
MOST_EXTENDED = 16  # recipes that one extends, those that these extend counted as well
SHOWN = 200  # characters of a wrong value


class WithoutAliases(yaml.SafeLoader):
    """YAML in which nothing stands for something else, no key is there twice, and nothing is nested deeper than a recipe is.

    Ten lines of aliases of aliases unfold to more than memory holds; of two sections of one name the first would be lost.
    """

    levels = 0

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value[:40]!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            found = self.peek_event()
            raise yaml.MarkedYAMLError(problem=f"write *{found.anchor} out, without alias", problem_mark=found.start_mark)
        self.levels += 1
        if self.levels > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {DEEPEST} levels", problem_mark=self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


PRESETS = ("presets/paper", "presets/released")  # not whole recipes, for others to extend


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _recipe_folder().iterdir() if f.name.endswith(".yaml"))


def text(name: str) -> str:
    """The YAML of a recipe by name, or of a file by path.

    Raises:
        RecipeError: there is neither.
    """
    if name in names() or name in PRESETS:
        return (_recipe_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and os.path.isfile(path):  # noqa: PTH113 - takes any name
        try:
            with open(path, "rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise RecipeError(f"recipe {name!r} is larger than {MOST_BYTES:,} bytes.")
            return content.decode()
        except (OSError, UnicodeDecodeError) as fault:
            raise RecipeError(f"recipe {name!r} cannot be read: {fault}") from fault
    near = _nearest(name, names()) if len(name) < 100 else ""
    raise RecipeError(f"recipe {_shown(name)} is neither a YAML file nor one of: {', '.join(names())}.{near}")


def load(name: str | Recipe, settings: Iterable[str] = (), **changes: Any) -> Recipe:
    """A recipe by name or file, or itself, with top-level changes and then `a.b=value` settings laid over it.

    Raises:
        RecipeError: with every fault of the result, one a line.
    """
    written = name.model_dump() if isinstance(name, Recipe) else _content(name, DEFAULTS)
    content = merged(written, {key: value for key, value in changes.items() if value is not None})
    for setting in settings:
        if len(setting) > MOST_BYTES:
            raise RecipeError(f"--set {setting[:40]!r}... is longer than {MOST_BYTES:,} characters.")
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {setting!r} should read a.b=value, e.g. train.epochs=50.")
        try:
            branch = yaml.load(value, WithoutAliases)
        except (yaml.YAMLError, RecursionError, ValueError) as fault:  # ValueError: a date or number that is none
            raise RecipeError(f"--set {_shown(setting)}: the value is not YAML: {fault}") from fault
        for part in reversed(key.strip().split(".")):
            branch = {part: branch}
        content = merged(content, branch)
    return check(content, name if isinstance(name, str) else "given")


DEFAULTS = {"instance": Stage().model_dump(), "group": GroupStage().model_dump()}  # so that a setting can reach into them


ONLY_IF = "only_if"  # a key of a preset: what stands beside it is for the part of this name


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on it, key by key; another part by `name` starts from that part's own defaults.

    Where `over` has `only_if: NAME`, it is left out unless the part of `base` has that name.
    """
    if ONLY_IF in over:
        if over[ONLY_IF] != base.get("name"):
            return dict(base)
        over = {key: value for key, value in over.items() if key != ONLY_IF}
    if "name" in over and over["name"] != base.get("name"):
        return dict(over)
    result = dict(base)
    for key, value in over.items():
        below = base.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _content(
    name: str, ground: Mapping[str, Any], above: tuple[str, ...] = (), read: list[str] | None = None
) -> dict[str, Any]:
    """`ground` with a recipe laid on it, and before that what it extends: `extends: NAME` or `extends: [NAME, ...]`.

    Only what each of them states is laid, so the last one changes its own keys and no others.
    """
    read = [] if read is None else read
    read.append(name)
    if len(read) > MOST_EXTENDED:
        raise RecipeError(f"recipe {read[0]!r} extends more than {MOST_EXTENDED} others, theirs counted as well.")
    try:
        content = yaml.load(text(name), WithoutAliases)
    except RecipeError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        raise RecipeError(f"recipe {name!r} is not YAML: {fault}") from fault
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {name!r} should be a mapping of sections, not {type(content).__name__}.")
    below = content.pop("extends", [])
    if not isinstance(below, str | list) or name in above:
        raise RecipeError(f"recipe {name!r}: extends should be names of other recipes, and not lead back to itself.")
    for other in [below] if isinstance(below, str) else below:
        ground = _content(str(other), ground, (*above, name), read)
    return merged(ground, content)


def check(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """The recipe that `content` describes.

    Raises:
        RecipeError: with every fault, one a line; an unknown key with the nearest right one.
    """
    lines: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(content)
        content = recipe.model_dump()
    except ValidationError as faults:
        lines += _explain(faults)
    lines += _inconsistencies(content)
    if recipe is None or lines:
        head = f"recipe {name!r} has {len(lines)} fault{'s' if len(lines) > 1 else ''}: "
        raise RecipeError(head + ("\n  " if len(lines) > 1 else "") + "\n  ".join(lines))
    return recipe


def _inconsistencies(content: Mapping[str, Any]) -> Iterator[str]:
    """Values that do not fit together, wherever both are there to be compared."""

    def at(*place: str) -> Any:
        value: Any = content
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    batch = at("train", "batch_size")
    for stage in ("instance", "group"):
        for size in ("k", "k1", "k2"):
            value = at(stage, "neighbourhood", size)
            if isinstance(value, int) and isinstance(batch, int) and value > batch:
                yield f"{stage}.neighbourhood.{size}={value} should be at most train.batch_size={batch}."
    kernel, side = at("augment", "blur_kernel"), at("data", "size")
    if isinstance(kernel, int) and isinstance(side, int) and side and kernel > 2 * side - 1:
        yield f"augment.blur_kernel={kernel} should be at most {2 * side - 1}, as data.size={side}."
    for place in (
        *(("augment", key) for key in RANGES),
        ("feature_views", "mix"),
        ("instance", "crop_scale"),
        ("group", "crop_scale"),
    ):
        bounds = at(*place)
        numbers = isinstance(bounds, list | tuple) and all(isinstance(bound, int | float) for bound in bounds)
        if numbers and len(bounds) == 2 and bounds[0] > bounds[1]:
            yield f"{'.'.join(place)}={list(bounds)} should rise."


RANGES = ("crop_scale", "crop_ratio", "zoom", "blur_sigma")
SOCKETS = ("backbone", "framework", "neighbourhood", "anchors")  # pydantic adds the chosen part's name after these


def _explain(faults: ValidationError) -> Iterator[str]:
    """One line a fault: where, what was found, what should be there."""
    for fault in faults.errors(include_url=False):
        place = [str(part) for part in fault["loc"]]
        key = ".".join(part for before, part in zip(["", *place], place, strict=False) if before not in SOCKETS)
        if fault["type"] == "extra_forbidden":
            yield f"{key} is not a key.{_nearest(key, keys())}"
        elif fault["type"] == "missing":
            yield f"{key} is missing."
        elif not key:
            yield fault["msg"].removeprefix("Value error, ") + "."
        else:
            yield f"{key}={_shown(fault['input'])}: {fault['msg']}."


def backbone(content: Mapping[str, Any]) -> Section:
    """The section of a backbone, written out.

    Raises:
        RecipeError: it is none.
    """
    try:
        return Recipe.model_validate({"backbone": content, "framework": {"name": "byol"}}).backbone
    except ValidationError as faults:
        raise RecipeError(f"{_shown(content)} is no backbone: " + " ".join(_explain(faults))) from faults


def keys(section: type[Section] = Recipe, prefix: str = "") -> list[str]:
    """Every key that a recipe may have, dotted: `train.epochs`, `group.neighbourhood.k`."""
    found = []
    for name, field in section.model_fields.items():
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        sections = [part for part in parts if issubclass(part, Section)]
        found += [key for part in sections for key in keys(part, f"{prefix}{name}.")]
        found += [prefix + name] if not sections or type(None) in parts else []
    return list(dict.fromkeys(found))


def _shown(value: Any) -> str:
    """A value as Python writes it, if it is not too long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of very many digits, or lists in lists in lists
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _nearest(word: str, known: list[str]) -> str:
    """' Did you mean ...?', or nothing. A right key in a wrong section counts as near."""
    last = word.rpartition(".")[2]
    near = [k for k in known if k.rpartition(".")[2] == last] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _recipe_folder() -> Traversable:
    return resources.files("connr") / "recipes"
