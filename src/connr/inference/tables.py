"""Writes predictions as CSV to a stream or file, or as Parquet to a file. Files are written atomically."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from connr.clustering.assigners import Assigned
from connr.data import Skipped
from connr.errors import InputError
from connr.inference.rows import PredictionChunk
from connr.run_folder import check_writable, replacing
from connr.schema import write_skipped

COLUMNS = ("path", "cluster", "distance", "confidence", "runner_up")
ROWS_PER_GROUP = 65536  # of a Parquet file


@runtime_checkable
class Writable(Protocol):
    """A binary stream: a file, or the buffer of standard output."""

    def write(self, content: bytes, /) -> int: ...
    def flush(self) -> None: ...


class Table(ABC):
    """A writer of rows."""

    @abstractmethod
    def add(self, names: list[str], assigned: Assigned) -> None:
        """A row per image, in order."""

    @abstractmethod
    def close(self) -> None:
        """Writes buffered rows."""


class CsvTable(Table):
    """One line per image, ended by a line feed; numbers have six decimals. The header is written with the first row."""

    def __init__(self, file: Writable) -> None:
        self.file, self.begun = file, False

    def add(self, names: list[str], assigned: Assigned) -> None:
        text = io.StringIO(newline="")
        odd = any("\r" in name for name in names)  # csv does not quote it if lines end in \n
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)
        if not self.begun:
            writer.writerow(COLUMNS)
            self.begun = True
        numbers = (column.tolist() for column in _columns(assigned))
        rows = zip(names, *numbers, strict=True)
        writer.writerows((name, cluster, f"{d:.6f}", f"{c:.6f}", runner_up) for name, cluster, d, c, runner_up in rows)
        self.file.write(text.getvalue().encode(errors="surrogateescape"))  # names of files need not be UTF-8
        self.file.flush()

    def close(self) -> None:
        pass


class ParquetTable(Table):
    """string, int32, float32, float32, int32. Bytes of names that are not UTF-8, which Parquet requires, become \\xNN."""

    def __init__(self, path: Path) -> None:
        arrow, parquet = _pyarrow()
        types = (arrow.string(), arrow.int32(), arrow.float32(), arrow.float32(), arrow.int32())
        self.arrow, self.schema = arrow, arrow.schema(list(zip(COLUMNS, types, strict=True)))
        self.writer = parquet.ParquetWriter(path, self.schema)
        self.held: list[Any] = []

    def add(self, names: list[str], assigned: Assigned) -> None:
        readable = [name.encode(errors="surrogateescape").decode(errors="backslashreplace") for name in names]
        arrays = [readable, *(column.numpy() for column in _columns(assigned))]
        typed = [self.arrow.array(array, field.type) for array, field in zip(arrays, self.schema, strict=True)]
        self.held.append(self.arrow.record_batch(typed, schema=self.schema))
        if sum(batch.num_rows for batch in self.held) >= ROWS_PER_GROUP:
            self._write()

    def close(self) -> None:
        self._write()
        self.writer.close()

    def _write(self) -> None:
        if self.held:
            self.writer.write_table(self.arrow.Table.from_batches(self.held))
            self.held.clear()


def write(rows: Iterable[PredictionChunk], table: Table, advance: Callable[[int], None]) -> tuple[int, list[Skipped]]:
    """Writes all rows; returns their number and the skipped files. Calls `advance` with the number of files processed."""
    written, skipped = 0, list[Skipped]()
    for names, assigned, left_out in rows:
        if names:
            table.add(names, assigned)
        written += len(names)
        skipped += left_out
        advance(len(names) + len(left_out))
    return written, skipped


def write_file(rows: Iterable[PredictionChunk], path: Path, advance: Callable[[int], None]) -> tuple[int, list[Skipped]]:
    """Like `write`, to a .csv or .parquet file, and writes a list of the skipped files next to it."""
    with table_at(path) as table:
        written, skipped = write(rows, table, advance)
    baselines = skipped_beside(path)
    if skipped:
        write_skipped(baselines, skipped)
    else:
        baselines.unlink(missing_ok=True)  # of the file that this one replaces
    return written, skipped


def _columns(assigned: Assigned) -> tuple[Tensor, ...]:
    assert assigned.runners_up is not None  # set by `Model.assign`
    return assigned.clusters, assigned.distances, assigned.confidences, assigned.runners_up


def skipped_beside(path: Path) -> Path:
    """The path of the list of skipped files: new.csv -> new.skipped.csv."""
    return path.with_name(f"{path.stem}.skipped.csv")


def check_place(path: Path, overwrite: bool) -> None:
    """Checks before any work that a file can be written.

    Raises:
        InputError: its ending is not known, pyarrow is missing, it is a folder, or it is there and `overwrite` is False.
    """
    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise InputError(f"--out {path} should end in .csv or .parquet.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; it should be a file.")
    for there in (path, skipped_beside(path)):
        if there.exists() and not overwrite:
            raise InputError(f"{there} exists; add --overwrite, or choose another --out.")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}.")
    check_writable(path)


@contextmanager
def table_at(path: Path) -> Iterator[Table]:
    """A table that is written to `path` if the block ends without an error."""
    with replacing(path) as draft:
        if path.suffix.lower() == ".parquet":
            table = ParquetTable(draft)
            try:
                yield table
            finally:
                table.close()
        else:
            with open(draft, "wb") as file:
                yield CsvTable(file)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as fault:
        raise InputError('Parquet needs pyarrow: pip install "connr[parquet]".') from fault
    return pyarrow, pyarrow.parquet
