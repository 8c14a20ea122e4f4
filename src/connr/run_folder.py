"""A run folder and its files. Every write is atomic: to a temporary file, flushed to the disk, then renamed.

recipe.yaml  events.jsonl  checkpoints/  model.safetensors + config.json  assignments.csv  skipped.csv
clusters.png  report.html, log/ if the recipe has one, cache/ for images that do not fit in memory
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from connr.errors import InputError

LOCK = ".lock"  # held during a run; the operating system releases it when the process ends


class RunFolder:
    """The paths of one run.

    Args:
        path: of the folder; need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.events = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.log = self.path / "log"
        self.cache = self.path / "cache"
        self.model = self.path / "model.safetensors"
        self.config = self.path / "config.json"
        self.assignments = self.path / "assignments.csv"
        self.skipped = self.path / "skipped.csv"
        self.picture = self.path / "clusters.png"
        self.report = self.path / "report.html"
        self.pixels = self.path / ".pixels"  # during a run of several processes

    def holds_a_run(self) -> bool:
        """Whether a run was started in this folder."""
        return self.recipe.is_file() and self.checkpoints.is_dir()

    def check(self, resume: bool, way_out: str = "add --resume to go on with it, or choose another --out") -> None:
        """Checks before any work that a run may write to this folder.

        Args:
            resume: the folder must hold a run to continue.
            way_out: advice for the message if it holds a run and should not.

        Raises:
            InputError: the folder is a file, holds another run or other files, or (with `resume`) holds no run.
        """
        _check_name(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; --out needs a folder.")
        if resume and not self.holds_a_run():
            raise InputError(f"{self.path} holds no run to resume; leave out --resume to start one.")
        if not resume and self.holds_a_run():
            raise InputError(f"{self.path} holds a run already; {way_out}.")
        for place in (self.path / LOCK, self.checkpoints, self.log, self.cache):
            refuse_link(place)
        created_early = (LOCK, "checkpoints", "cache")  # by a run before it trains
        if not resume and self.path.exists() and any(place.name not in created_early for place in self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no run; choose another --out.")

    @contextmanager
    def claimed(self, recipe: str, resume: bool) -> Iterator[None]:
        """Locks the folder for this run and writes its recipe if it has none.

        Args:
            recipe: YAML text.
            resume: as in `check`.

        Raises:
            InputError: as `check`, or another run is using the folder, or it cannot be written to.
        """
        self.check(resume)
        with locked(self.path, "a run is going on in", "choose another --out"):
            self.check(resume)  # another run may have used it in between
            self.checkpoints.mkdir(exist_ok=True)
            for draft in (*self.path.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp"), self.pixels):
                whole_folder = draft.is_dir() and not draft.is_symlink()
                shutil.rmtree(draft) if whole_folder else draft.unlink(missing_ok=True)  # left by a killed run
            if not self.holds_a_run():  # a resumed run has the same recipe, perhaps with comments of the user
                write_text(self.recipe, recipe)
            yield


def refuse_link(place: Path) -> None:
    """Refuses a symbolic link where a run creates and removes files: in a foreign folder it may point anywhere.

    Raises:
        InputError: `place` is a symbolic link.
    """
    if place.is_symlink():
        raise InputError(f"{place} is a symbolic link, and a run writes and removes files there; put a real one in its place.")


@contextmanager
def locked(folder: Path, busy: str, way_out: str) -> Iterator[None]:
    """Locks a folder for this process; creates it if necessary.

    Args:
        folder: to lock.
        busy: the start of the message if another process holds the lock, ending in "in" or "into".
        way_out: advice for the message, besides waiting.

    Raises:
        InputError: another process holds the lock, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(f"{busy} {folder}; wait for its end, or {way_out}.") from None
    except OSError as fault:
        raise InputError(f"{folder} cannot be written to: {fault.strerror}; {way_out}.") from fault
    try:
        yield
    finally:
        lock.release()


def differences(before: str, after: str) -> str:
    """The lines of two texts that differ: `-` for lines only in `before`, `+` for lines only in `after`."""
    old, new = before.splitlines(), after.splitlines()
    removed = [f"  - {line}" for line in old if line not in new]
    return "\n".join(removed + [f"  + {line}" for line in new if line not in old])


def next_free(parent: Path, name: str) -> Path:
    """parent/name-1, -2, ...: the first that does not exist."""
    number = 1
    while (path := parent / f"{name}-{number}").exists():
        number += 1
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to; on success it is renamed to `path`, which is never seen half-written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        with open(draft, "rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
        flush_folder(path.parent)
    except OSError as fault:
        if fault.filename is None and not isinstance(fault, BrokenPipeError):  # a failed write does not name the file
            fault.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flushes the entries of a folder to the disk, on POSIX systems."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_writable(path: Path) -> None:
    """Checks before any work that a path can be written to, by creating the temporary file that `replacing` uses.

    Raises:
        InputError: its name is not UTF-8, or the file cannot be created.
    """
    _check_name(path)
    real = path.absolute()
    draft = real.with_name(f".{real.name}.{os.getpid()}.tmp")
    try:
        draft.touch()
        draft.unlink()
    except OSError as fault:
        raise InputError(f"{path} cannot be written: {fault.strerror}; choose another --out.") from fault


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # safetensors and Arrow cannot open such a path
        raise InputError(f"the name {str(path)!a} is not UTF-8; choose another --out.") from None


def check_new(folder: Path) -> None:
    """Checks before any work that a folder can be created.

    Raises:
        InputError: it is a file or not empty, or its parent does not exist or cannot be written to.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; choose another name.")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.parent}.")
    check_writable(folder)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to write to; on success it is renamed to `folder`, which must be new or empty."""
    real = folder.resolve()
    draft = real.with_name(f".{real.name}.{os.getpid()}.tmp")
    draft.mkdir()
    try:
        yield draft
        if real.exists():
            real.rmdir()  # it is empty
        draft.rename(real)
        flush_folder(real.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    write_bytes(path, text.encode(errors="surrogateescape"))  # names of files need not be UTF-8
