"""CSV files of a run, RFC 4180. Bytes of file names that are not UTF-8 are preserved."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from connr.errors import InputError
from connr.run_folder import write_text
from connr.schema.record import LONGEST_TEXT

MOST_BYTES = 2**32
SKIPPED = ("path", "reason")


def read_csv(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The cells of `columns` in each row of a file; the order of columns is free, others are ignored.

    Raises:
        InputError: it cannot be read, is not a regular file, lacks a column, or a row ends before its last one.
    """
    rows = list[tuple[str, ...]]()
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if missing := [column for column in columns if column not in header]:
                raise ValueError(f"it has no column {missing[0]}")
            places = [header.index(column) for column in columns]
            for cells in reader:
                if not cells:
                    continue
                if len(cells) <= max(places):
                    raise ValueError(f"line {reader.line_num} ends before its last column")
                row = tuple([cells[place] for place in places])
                if any(len(cell) > LONGEST_TEXT or "\0" in cell for cell in row):
                    raise ValueError(f"line {reader.line_num} has a cell of over {LONGEST_TEXT} characters or a zero byte")
                rows.append(row)
    except OSError as fault:
        raise InputError(f"{path} cannot be read: {fault.strerror or fault}.") from fault
    except (ValueError, csv.Error) as fault:
        raise InputError(f"{path} is not as a run writes it: {fault}.") from fault
    return rows


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    """Writes rows as RFC 4180 text, atomically."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_skipped(path: Path) -> list[tuple[str, ...]]:
    """(path, reason) of the skipped files; empty without a file.

    Raises:
        InputError: as `read_csv`.
    """
    return read_csv(path, SKIPPED) if path.exists() else []


def write_skipped(path: Path, skipped: Iterable[Iterable[object]]) -> None:
    """Writes skipped.csv: path and reason of each skipped file."""
    write_csv(path, SKIPPED, skipped)
