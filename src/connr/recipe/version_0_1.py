"""Translates the keys of recipes of version 0.1, so that old files, settings and run folders can be read."""

from collections.abc import Mapping
from typing import Any

MOVED = {  # section or key of 0.1 -> where it is now
    ("framework",): ("method", "base"),
    ("instance",): ("method", "instance"),
    ("group",): ("method", "group"),
    ("train", "group_from"): ("method", "start"),
    ("train", "loss_mean"): ("method", "loss_mean"),
    ("at_hand",): ("prefer_if_cached",),
}
RENAMED = {"sigma_too": "inclusive_threshold"}  # anywhere


def translated(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with current keys; a mapping without keys of 0.1 is returned unchanged.

    Args:
        content: of a recipe, or a part of one: a file that extends another, or a setting.
    """
    result: dict[str, Any] = _renamed(content)
    for old, new in MOVED.items():
        *above, key = old
        section: Any = result
        for part in above:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section:
            continue
        value = section.pop(key)
        if above and not section:
            result.pop(above[0])
        target = result
        for part in new[:-1]:
            below = target.get(part)
            target[part] = target = dict(below) if isinstance(below, Mapping) else {}
        target.setdefault(new[-1], value)
        if old == ("framework",):
            target.setdefault("name", "connr")
    return result


def _renamed(content: Any) -> Any:
    if not isinstance(content, Mapping):
        return content
    return {RENAMED.get(str(key), key): _renamed(value) for key, value in content.items()}
