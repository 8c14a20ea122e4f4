"""A run folder and its files. Everything is written whole: to a temporary file, flushed to the disk, then renamed.

recipe.yaml  events.jsonl  checkpoints/  model.safetensors + config.json  assignments.csv  skipped.csv
clusters.png  report.html, and log/ where the recipe asks for one; cache/ of images that are too many for the memory
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from connr.errors import InputError

LOCK = ".lock"  # held while a run goes on; the system lets go of it when the process ends, however it ends


class RunFolder:
    """Paths of one run."""

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
        self.pixels = self.path / ".pixels"  # of a run of several processes, while it goes on

    def holds_a_run(self) -> bool:
        return self.recipe.is_file() and self.checkpoints.is_dir()

    def check(self, resume: bool, way_out: str = "add --resume to go on with it, or choose another --out") -> None:
        """Refuses a folder that this run may not write to, before any work.

        Args:
            resume: it should hold the run to go on with.
            way_out: where it holds a run and should not.

        Raises:
            InputError: it is a file, holds another run or other files, or (to resume) holds no run.
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
        own = (LOCK, "checkpoints", "cache")  # what a run makes before it begins
        if not resume and self.path.exists() and any(place.name not in own for place in self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no run; choose another --out.")

    @contextmanager
    def claimed(self, recipe: str, resume: bool) -> Iterator[None]:
        """Inside, the folder is this run's own, with its recipe written; no other process can claim it.

        Raises:
            InputError: as `check`; or a run is going on in it; or it cannot be written to.
        """
        self.check(resume)
        with locked(self.path, "a run is going on in", "choose another --out"):
            self.check(resume)  # another run may have come and gone since
            self.checkpoints.mkdir(exist_ok=True)
            for draft in (*self.path.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp"), self.pixels):
                whole_folder = draft.is_dir() and not draft.is_symlink()
                shutil.rmtree(draft) if whole_folder else draft.unlink(missing_ok=True)  # what a killed run left
            write_text(self.recipe, recipe)
            yield


def refuse_link(place: Path) -> None:
    """Refuses a symbolic link where a run makes, overwrites and removes files: in a stranger's folder it may lead anywhere.

    Raises:
        InputError: it is one.
    """
    if place.is_symlink():
        raise InputError(f"{place} is a symbolic link, and a run writes and removes files there; put a real one in its place.")


@contextmanager
def locked(folder: Path, busy: str, way_out: str) -> Iterator[None]:
    """Inside, the folder, made if it is not there, is this process's alone.

    Args:
        busy: what another process does there: "... in" or "... into".
        way_out: besides waiting for its end.

    Raises:
        InputError: another process has it, or it cannot be written to.
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
        flush_folder(path.parent)
    except OSError as fault:
        if fault.filename is None and not isinstance(fault, BrokenPipeError):  # a write does not say to which file
            fault.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """The new name reaches the disk too, where the system can be asked for it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_writable(path: Path) -> None:
    """Refuses a place that cannot be written to, before any work; the draft that `replacing` would make is tried.

    Raises:
        InputError: its name is not UTF-8, or the system refuses.
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
    except UnicodeEncodeError:  # safetensors and Arrow open no such path
        raise InputError(f"the name {str(path)!a} is not UTF-8; choose another --out.") from None


def check_new(folder: Path) -> None:
    """Refuses a folder to be written that is taken, before any work.

    Raises:
        InputError: it is a file or not empty, there is no folder to put it in, or that cannot be written to.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there and not an empty folder; choose another name.")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.parent}.")
    check_writable(folder)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside a new or empty one, which it becomes on leaving without an error."""
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
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode(errors="surrogateescape"))  # names of files need not be UTF-8
