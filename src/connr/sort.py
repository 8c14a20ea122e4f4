"""Sorts the pictures of a run into one folder per cluster, as links or copies, the most typical first."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from connr.data import Skipped
from connr.data.formats import extensions
from connr.data.sources import is_remote
from connr.errors import InputError
from connr.run_folder import RunFolder, check_new, replacing_folder
from connr.runs import read_assignments, read_config
from connr.schema import AssignmentRow, write_csv

LONGEST_NAME = 200  # bytes of a picture's name besides its rank; file systems allow 255


class Sorted(NamedTuple):
    """Numbers of linked and copied pictures, and the missing ones."""

    linked: int
    copied: int
    missing: list[Skipped]


def sort(folder: RunFolder, out: Path, *, copy: bool = False, pictures: Path | None = None) -> Sorted:
    """Writes OUT/cluster-00/, OUT/cluster-01/, ... with RANK-NAME for each picture, ranked by distance to the centroid.

    The rank keeps apart pictures of the same name in different folders. `sorted.csv` says which file is which picture;
    `missing.csv` lists the missing ones. OUT is written atomically.

    Args:
        folder: a finished run on a folder of pictures.
        out: new or empty, outside the pictures' folder.
        copy: copies, not links. Links are relative, so that OUT and the pictures can be moved together; a picture is copied
            after all where the system has no links to give, as Windows without the privilege.
        pictures: where the pictures are now; None for where they were.

    Raises:
        OSError: the disk is full, or OUT may not be written.
        InputError: there is no such run, it was not on a folder, no picture is there, or OUT is taken.
    """
    config = read_config(folder)
    clusters = config.clusters
    if config.recipe.takes_features:
        raise InputError(f"{folder.path} is a run on rows of features, not on a folder: there are no pictures to sort.")
    rows = read_assignments(folder, clusters)
    _check_names(folder, rows)
    source = _source(folder, pictures, config.data)
    check_new(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{out} lies among the pictures themselves, in {source}; choose an OUT elsewhere.")
    found = [row for row in rows if (source / row.path).is_file()]
    missing = [Skipped(row.path, "not there") for row in rows if not (source / row.path).is_file()]
    if not found:
        raise InputError(f"none of the {len(rows):,} pictures of {folder.path} is in {source}; say where with --pictures.")

    linked, index = 0, list[tuple[str, str]]()
    with replacing_folder(out) as draft:
        for cluster in range(clusters):
            place = draft / f"cluster-{cluster:0{max(2, len(str(clusters - 1)))}d}"
            place.mkdir()
            members = sorted((row for row in found if row.cluster == cluster), key=lambda row: row.distance)
            digits = max(3, len(str(len(members))))
            for rank, row in enumerate(members, start=1):
                target = place / f"{rank:0{digits}d}-{_short(Path(row.path).name)}"
                linked += _put(source / row.path, target, copy)
                index.append((row.path, f"{place.name}/{target.name}"))
        write_csv(draft / "sorted.csv", ("path", "file"), index)
        if missing:
            write_csv(draft / "missing.csv", ("path", "reason"), missing)
    return Sorted(linked, len(found) - linked, missing)


def _put(picture: Path, target: Path, copy: bool) -> bool:
    """Links a picture, or copies it with its times; returns whether it was linked."""
    if not copy:
        try:
            target.symlink_to(_relative(picture, target.parent))
            return True
        except OSError:  # no privilege, or a file system without links
            if not picture.is_file():
                raise
    shutil.copy2(picture, target)
    return False


def _relative(picture: Path, place: Path) -> Path:
    real = picture.parent.resolve() / picture.name
    try:
        return Path(os.path.relpath(real, place.resolve()))
    except ValueError:  # on another drive of Windows
        return real


def _short(name: str) -> str:
    """The end of a name that is too long, with its extension."""
    raw = os.fsencode(name)
    return name if len(raw) <= LONGEST_NAME else raw[-LONGEST_NAME:].decode(errors="ignore")


def _check_names(folder: RunFolder, rows: list[AssignmentRow]) -> None:
    """Refuses names outside the pictures' folder, as a run folder may be foreign."""
    known = extensions()
    for path in (Path(row.path) for row in rows):
        if path.is_absolute() or ".." in path.parts or path.suffix.lower() not in known:
            raise InputError(f"{folder.assignments} is not as a run writes it: it names {str(path)!r}.")


def _source(folder: RunFolder, pictures: Path | None, was_at: str) -> Path:
    if pictures is not None:
        if not pictures.is_dir():
            raise InputError(f"--pictures {pictures} is not a folder.")
        return pictures.absolute()
    if Path(was_at).is_absolute() and is_remote(was_at):
        raise InputError(f"the pictures of {folder.path} were in {was_at}, on another machine; say where with --pictures.")
    if Path(was_at).is_absolute() and Path(was_at).is_dir():
        return Path(was_at)
    if not Path(was_at).is_absolute() or Path(was_at).suffix.lower() in (".npz", ".npy", ".parquet"):
        raise InputError(f"{folder.path} is a run on {was_at or 'an array'}, not on a folder: there are no pictures to sort.")
    raise InputError(f"the pictures of {folder.path} were in {was_at}, which does not exist; say where with --pictures.")
