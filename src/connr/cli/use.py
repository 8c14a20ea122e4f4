"""Commands for a finished run: `connr predict`, `evaluate`, `neighbours`, `export`, `sort`."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.progress import Progress

from connr.cli.app import RUN_FAILED, Device, app, console, print_scores
from connr.cli.screen import Screen, silence
from connr.errors import InputError

if TYPE_CHECKING:
    from io import BufferedReader

    from connr.data import Skipped
    from connr.inference import PredictionChunk

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")]
NAMED_AT_MOST = 5  # skipped files to print; the others are in the list


@app.command()
def predict(
    run_folder: Run,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A picture, a folder, an .npz, a name; - for paths on standard input.")
    ],
    out: Annotated[Path | None, typer.Option(help="A .csv or .parquet file; default CSV on standard output.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="Paths on standard input end in a zero byte.")] = False,
    device: Device = "auto",
) -> None:
    """Assigns new pictures to clusters; columns path, cluster, distance, confidence, runner_up."""
    from connr import inference, runs
    from connr.data.stream import split_paths
    from connr.run_folder import RunFolder

    if null and data != "-":
        raise InputError(f"--null needs paths on standard input: DATA should be - instead of {data}.")
    if out:
        inference.check_place(out, overwrite)
    notes = Screen(stderr=True)
    source = split_paths(_standard_input(), null) if data == "-" else data
    rows, total = inference.assign(*runs.load_model(RunFolder(run_folder), device), source)
    with Progress(console=notes, transient=True, disable=not notes.is_terminal) as bar:
        advance = partial(bar.advance, bar.add_task("predicting", total=total))
        if out:
            written, skipped = inference.write_file(rows, out, advance)
        else:
            written, skipped = _onto_standard_output(rows, advance)
    if out:
        notes.print(f"{written:,} {'row' if written == 1 else 'rows'}: {out}", highlight=False)
    _tell(skipped, notes, inference.skipped_beside(out) if out else None)


@app.command()
def evaluate(
    run_folder: Run,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Other labelled images; default those of the run.")
    ] = None,
    labels_from_folders: Annotated[bool, typer.Option(help="Score DATA against the names of its subfolders.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    device: Device = "auto",
) -> None:
    """Scores a run against the labels of its images or of other images: ACC, NMI, ARI, n."""
    from connr import runs
    from connr.run_folder import RunFolder

    if data is None:
        if labels_from_folders:
            raise InputError("--labels-from-folders needs DATA: connr evaluate RUN DATA --labels-from-folders.")
        scores = runs.evaluate(RunFolder(run_folder))
    else:
        from connr import inference

        scores, skipped = inference.score(RunFolder(run_folder), data, labels_from_folders, device)
        _tell(skipped, Screen(stderr=True))
    if as_json:
        typer.echo(json.dumps(scores))
    else:
        print_scores(scores, console())


@app.command()
def neighbours(
    run_folder: Run,
    image: Annotated[str, typer.Option(help="A path of assignments.csv, or a new picture.")],
    count: Annotated[int, typer.Option(help="Neighbours of each kind.")] = 10,
    sheet: Annotated[Path | None, typer.Option(help="A .png to write, with the pictures.")] = None,
    data: Annotated[str | None, typer.Option(help="The images of the run, if they moved.")] = None,
    device: Device = "auto",
) -> None:
    """Prints the nearest pictures of a run, by contextual similarity and by cosine, as CSV."""
    from connr.inference import neighbours as near
    from connr.run_folder import RunFolder, write_bytes

    if sheet and (sheet.suffix.lower() != ".png" or not sheet.parent.is_dir()):
        raise InputError(f"--sheet {sheet} should be a .png in an existing folder.")
    found = near.neighbours(RunFolder(run_folder), image, count, data, device)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([near.COLUMNS, *found.table()])
    typer.echo(text.getvalue().encode(errors="surrogateescape"), nl=False)  # names of files need not be UTF-8
    notes = Screen(stderr=True)
    if found.purity:
        shares = ", ".join(f"{way} {share:.4f}" for way, share in found.purity.items())
        notes.print(f"Of the neighbours of all {len(found.rows.names):,} images, so many have their label: {shares}.")
    if sheet:
        write_bytes(sheet, near.sheet(found))
        notes.print(f"Pictures: {sheet}")


@app.command()
def export(
    run_folder: Run,
    to: Annotated[str, typer.Option(help="safetensors (a lean folder), onnx (a file) or hub (a folder with a model card).")],
    out: Annotated[Path, typer.Option(help="A new folder, or a new .onnx file.")],
) -> None:
    """Writes the model of a run for use elsewhere; nothing is uploaded."""
    from connr import export
    from connr.run_folder import RunFolder

    console().print(export.export(RunFolder(run_folder), to, out))


@app.command()
def sort(
    run_folder: Run,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    copy: Annotated[bool, typer.Option("--copy/--link", help="Copies, or links to the pictures where they are.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="Where the pictures are now, if they were moved.")] = None,
) -> None:
    """Puts the pictures of a run into a folder for each cluster, the most typical first."""
    from connr.run_folder import RunFolder
    from connr.sort import sort

    linked, copied, missing = sort(RunFolder(run_folder), out, copy=copy, pictures=pictures)
    screen = console()
    if copied and not copy:
        screen.print(f"{copied:,} could not be linked here and are copied.", highlight=False)
    screen.print(f"{linked + copied:,} pictures {'copied' if copied else 'linked'}: {out}", highlight=False)
    if missing:
        screen.print(f"{len(missing):,} are not there any more; see {out / 'missing.csv'}.", highlight=False)


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise InputError("standard input is closed: there are no paths to read; give DATA as a file or a folder.")
    stdin = cast("BufferedReader", sys.stdin.buffer)
    return iter(partial(stdin.read1, 1 << 16), b"")


def _onto_standard_output(rows: "Iterable[PredictionChunk]", advance: Callable[[int], None]) -> "tuple[int, list[Skipped]]":
    from connr import inference

    if sys.stdout is None:
        raise InputError("standard output is closed; write to a file with --out.")
    try:
        return inference.write(rows, inference.CsvTable(sys.stdout.buffer), advance)
    except BrokenPipeError:  # the reader has ended, for example `head`
        silence(sys.stdout)
        raise typer.Exit(RUN_FAILED) from None


def _tell(skipped: "list[Skipped]", notes: Screen, listed: Path | None = None) -> None:
    """Says what was left out: all of it, or where there is a list the first few."""
    if not skipped:
        return
    where = f"; see {listed}" if listed else ""
    notes.print(f"{len(skipped):,} could not be read and are left out{where}:")
    for path, reason in skipped[: NAMED_AT_MOST if listed else None]:
        notes.print(f"  {path}: {reason}")
