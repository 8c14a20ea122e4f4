"""Reads untrusted JSON: only regular files, with limits of size and nesting."""

import json
from pathlib import Path
from typing import Any

from connr.errors import InputError

MOST_BYTES = 2**24
DEEPEST = 32


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: it does not exist, is no regular file, too large, not UTF-8, not JSON, nested too deep, or no object.
    """
    return parse_json(read_text(path, MOST_BYTES), str(path))


def parse_json(text: str, name: str) -> dict[str, Any]:
    """The JSON object in a text; `name` is that of the file, for the message.

    Raises:
        InputError: it is not JSON, nested too deep, or no object.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise InputError(f"{name} cannot be read: its JSON is nested deeper than {DEEPEST} levels.") from None
    except ValueError as fault:  # also an integer with more digits than Python converts
        raise InputError(f"{name} cannot be read as JSON: {fault}.") from fault
    if not isinstance(found, dict):
        raise InputError(f"{name} cannot be read: it should hold a JSON object, not {type(found).__name__}.")
    if deeper_than(found, DEEPEST):
        raise InputError(f"{name} cannot be read: its JSON is nested deeper than {DEEPEST} levels.")
    return found


def read_text(path: Path, most: int) -> str:
    """The text of a regular file of at most `most` bytes.

    Raises:
        InputError: it is not such.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} cannot be read: it is not a regular file.")
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise InputError(f"{path} cannot be read: it is larger than {most:,} bytes.")
        return content.decode()
    except OSError as fault:
        raise InputError(f"{path} cannot be read: {fault.strerror or fault}.") from fault
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} cannot be read as UTF-8: {fault.reason} at byte {fault.start}.") from fault


def deeper_than(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than a limit."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True
