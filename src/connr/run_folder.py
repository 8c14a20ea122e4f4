"""A run folder and its files. Everything is written whole: to a temporary file, flushed to the disk, then renamed.

recipe.yaml  events.jsonl  checkpoints/  model.safetensors + config.json  assignments.csv  skipped.csv  clusters.png
and log/ where the recipe asks for one
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connr.errors import InputError


class RunFolder:
    """Paths of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.events = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.log = self.path / "log"
        self.model = self.path / "model.safetensors"
        self.config = self.path / "config.json"
        self.assignments = self.path / "assignments.csv"
        self.skipped = self.path / "skipped.csv"
        self.picture = self.path / "clusters.png"

    def holds_a_run(self) -> bool:
        return self.recipe.is_file() and self.checkpoints.is_dir()

    def check(self, resume: bool) -> None:
        """Refuses a folder that this run may not write to, before any work.

        Raises:
            InputError: it is a file, holds another run or other files, or (to resume) holds no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; --out needs a folder.")
        if resume and not self.holds_a_run():
            raise InputError(f"{self.path} holds no run to resume; leave out --resume to start one.")
        if not resume and self.holds_a_run():
            raise InputError(f"{self.path} holds another run; add --resume to go on with it, or choose another --out.")
        if not resume and self.path.exists() and any(self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no run; choose another --out.")

    def claim(self, recipe: str, resume: bool) -> None:
        """Makes the folder this run's own and writes its recipe.

        Raises:
            InputError: as `check`; or the run to resume has another recipe; or the folder cannot be made.
        """
        self.check(resume)
        if resume and (there := self.recipe.read_text(encoding="utf-8")) != recipe:
            raise InputError(f"{self.path} holds a run of another recipe:\n{differences(there, recipe)}")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_text(self.recipe, recipe)
        except OSError as fault:
            raise InputError(f"{self.path} cannot be written to: {fault.strerror}; choose another --out.") from fault


def differences(before: str, after: str) -> str:
    """The lines of two recipes that differ, `-` there and `+` asked for."""
    there, asked = before.splitlines(), after.splitlines()
    gone = [f"  - {line}" for line in there if line not in asked]
    return "\n".join(gone + [f"  + {line}" for line in asked if line not in there])


def next_free(parent: Path, name: str) -> Path:
    """parent/name-1, -2, ...: the first that does not exist."""
    number = 1
    while (path := parent / f"{name}-{number}").exists():
        number += 1
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on leaving without an error it becomes `path`, which is never seen half-written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        with open(draft, "rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode(errors="surrogateescape"))  # names of files need not be UTF-8


def append_line(path: Path, record: dict[str, Any]) -> None:
    """One JSON object as one line at the end of the file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    try:
        whole = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in whole]
    except ValueError as fault:
        raise InputError(f"{path} is not JSON lines: {fault}; remove the lines that are not.") from fault
