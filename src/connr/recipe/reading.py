"""Reads recipes from YAML, by name or file, with overrides; reports all faults at once."""

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
from connr.recipe.plugins import BackboneConfig
from connr.recipe.recipe import Recipe
from connr.recipe.section import Section
from connr.recipe.version_0_1 import translated
from connr.registry import METHODS, Plugged


class RecipeError(InputError):
    """An invalid recipe; the message lists every fault."""


MOST_BYTES = 2**16  # of a file
DEEPEST = 32  # levels of sections and lists
MOST_EXTENDED = 16  # recipes that one extends, directly or indirectly
KEY_DEPTH = 3  # depth of sections in the search for a misspelt key
SHOWN = 200  # characters of a wrong value


class WithoutAliases(yaml.SafeLoader):
    """A YAML loader without aliases, duplicate keys and deep nesting.

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


PRESETS = ("presets/paper", "presets/released")  # incomplete recipes, for others to extend


def names() -> list[str]:
    """The names of the recipes of the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _recipe_folder().iterdir() if f.name.endswith(".yaml"))


def text(name: str) -> str:
    """The YAML of a recipe by name, or of a file by path.

    Raises:
        RecipeError: there is neither.
    """
    if name in names() or name in PRESETS:
        return (_recipe_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and os.path.isfile(path):  # noqa: PTH113 - accepts any text
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
    """Loads a recipe and applies top-level changes and then `a.b=value` settings.

    Raises:
        RecipeError: with every fault of the result, one a line.
    """
    written = name.model_dump() if isinstance(name, Recipe) else _content(name, {"method": _defaults("connr")})
    content = merged(written, {key: value for key, value in changes.items() if value is not None})
    for setting in settings:
        if len(setting) > MOST_BYTES:
            raise RecipeError(f"--set {setting[:40]!r}... is longer than {MOST_BYTES:,} characters.")
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {setting!r} should read a.b=value, e.g. train.epochs=50.")
        try:
            branch = yaml.load(value, WithoutAliases)
        except (yaml.YAMLError, RecursionError, ValueError) as fault:  # ValueError: an invalid date or number
            raise RecipeError(f"--set {_shown(setting)}: the value is not YAML: {fault}") from fault
        for part in reversed(key.strip().split(".")):
            branch = {part: branch}
        content = merged(content, translated(branch))
    return check(content, name if isinstance(name, str) else "given")


def _defaults(method: str) -> dict[str, Any]:
    """The default values of a method's section, so that a setting can change one of its parts."""
    config = Plugged(METHODS).config(method)
    fields = {key: field for key, field in config.model_fields.items() if not field.is_required()}
    found = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
    return {key: value.model_dump() if isinstance(value, Section) else value for key, value in found.items()}


ONLY_IF = "only_if"  # a key of a preset: the other keys of its section apply only to the part of this name


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated with `over`, recursively; a section with another `name` starts from the defaults of that name.

    A part may be given by its name alone: `method: scan` is `method: {name: scan}`.
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
        if isinstance(below, Mapping) and "name" in below and isinstance(value, str):
            value = {"name": value}  # method=scan is method.name=scan
        elif isinstance(below, str) and isinstance(value, Mapping):
            below = {"name": below}
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _content(
    name: str, ground: Mapping[str, Any], above: tuple[str, ...] = (), read: list[str] | None = None
) -> dict[str, Any]:
    """`ground` updated with the recipes that a recipe extends (`extends: NAME` or `extends: [NAME, ...]`), then with itself.

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
    below, content = content.pop("extends", []), translated(content)
    if not isinstance(below, str | list) or name in above:
        raise RecipeError(f"recipe {name!r}: extends should be names of other recipes, and not form a cycle.")
    for other in [below] if isinstance(below, str) else below:
        ground = _content(str(other), ground, (*above, name), read)
    return merged(ground, content)


def check(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """The recipe that `content` describes.

    Raises:
        RecipeError: with every fault, one a line; an unknown key with the nearest right one.
    """
    lines: list[str] = []
    recipe, content = None, translated(content)
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
    """Messages about values that are inconsistent with each other."""

    def at(*place: str) -> Any:
        value: Any = content
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    batch = at("train", "batch_size")
    for key, value in _leaves(at("method"), "method."):
        if key.endswith((".k", ".k1", ".k2")) and isinstance(value, int) and isinstance(batch, int) and value > batch:
            yield f"{key}={value} should be at most train.batch_size={batch}."
    kernel, side = at("augment", "blur_kernel"), at("data", "size")
    if isinstance(kernel, int) and isinstance(side, int) and side and kernel > 2 * side - 1:
        yield f"augment.blur_kernel={kernel} should be at most {2 * side - 1}, as data.size={side}."
    for place in (
        *(("augment", key) for key in RANGES),
        ("feature_views", "mix"),
        *((section, key) for section in ("weak", "strong") for key in RANGES),
        ("method", "instance", "crop_scale"),
        ("method", "group", "crop_scale"),
    ):
        bounds = at(*place)
        numbers = isinstance(bounds, list | tuple) and all(isinstance(bound, int | float) for bound in bounds)
        if numbers and len(bounds) == 2 and bounds[0] > bounds[1]:
            yield f"{'.'.join(place)}={list(bounds)} should rise."


def _leaves(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), content


RANGES = ("crop_scale", "crop_ratio", "zoom", "blur_sigma")


def _explain(faults: ValidationError) -> Iterator[str]:
    """One line per fault: the key, its value, and what is expected."""
    for fault in faults.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{key} is not a key.{_nearest(key, keys())}"
        elif fault["type"] == "missing":
            yield f"{key} is missing."
        elif not key:
            yield fault["msg"].removeprefix("Value error, ") + "."
        else:
            yield f"{key}={_shown(fault['input'])}: {fault['msg']}."


def backbone(content: Mapping[str, Any]) -> BackboneConfig:
    """The complete section of a backbone.

    Raises:
        RecipeError: it is none.
    """
    try:
        return Recipe.model_validate({"backbone": dict(content), "method": {"name": "byol"}}).backbone
    except ValidationError as faults:
        raise RecipeError(f"{_shown(content)} is not a backbone: " + " ".join(_explain(faults))) from faults


def keys(section: type[Section] = Recipe, prefix: str = "") -> list[str]:
    """Every key that a recipe may have, dotted: `train.epochs`, `method.group.neighbourhood.k`."""
    found = []
    for name, field in section.model_fields.items():
        plugged = next((each for each in field.metadata if isinstance(each, Plugged)), None)
        if plugged is not None:
            if prefix.count(".") < KEY_DEPTH:
                found += [key for each in plugged.registry for key in keys(plugged.config(each), f"{prefix}{name}.")]
            continue
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        sections = [part for part in parts if issubclass(part, Section)]
        found += [key for part in sections for key in keys(part, f"{prefix}{name}.")]
        found += [prefix + name] if not sections or type(None) in parts else []
    return list(dict.fromkeys(found))


def _shown(value: Any) -> str:
    """The repr of a value, shortened."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a huge number, or deeply nested lists
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _nearest(word: str, known: list[str]) -> str:
    """' Did you mean ...?', or nothing. Also finds the right key in a wrong section."""
    last = word.rpartition(".")[2]
    near = [k for k in known if k.rpartition(".")[2] == last] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _recipe_folder() -> Traversable:
    return resources.files("connr") / "recipes"
