"""`connr data list | check | show`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from connr.cli.app import RUN_FAILED, Set, app, console
from connr.errors import InputError

data_app = typer.Typer(no_args_is_help=True, help="The paper's data sets, and previews of your images.")
app.add_typer(data_app, name="data")


@data_app.command("list")
def list_data() -> None:
    """Lists the named data sets and how to get them."""
    from connr.data.named import DATASETS

    table = Table("DATA", "images", "labelled", "classes", "how to get it", box=None, pad_edge=False)
    table.add_row("digits", "1,797", "1,797", "10", "included in scikit-learn")
    for name, known in DATASETS.items():
        table.add_row(name, f"{known.images:,}", f"{known.labelled:,}", str(known.classes), known.how)
    console().print(table)


@data_app.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="One of `connr data list`, or NAME:FOLDER.")],
    root: Annotated[Path | None, typer.Option(help="The folder of the data set; default CONNR_DATA.")] = None,
) -> None:
    """Counts the images and classes of a data set and reports what is missing; exit code 1 if it is incomplete."""
    from connr.data.named import DATASETS, ROOT, root_of
    from connr.data.paper import check_files

    name, colon, given = name.partition(":")
    if colon and root is None:
        root = Path(given)
    if name not in DATASETS:
        raise InputError(f"{name!r} is not one of: {', '.join(DATASETS)}.")
    place = root or root_of(name)
    found, screen = check_files(name, place), console()
    screen.print(f"{name} in {place}: {found.images:,} images, {found.labelled:,} with a label, {found.classes} classes.")
    for fault in found.faults:
        screen.print(f"  {fault}")
    if found.faults:
        screen.print(f"To get it: {DATASETS[name].how}, in {place}")
        raise typer.Exit(RUN_FAILED)
    here = name if not root or os.environ.get(ROOT) == str(root) else f"{name}:{root}"
    screen.print(f"It is complete: connr fit {here}")


@data_app.command("show")
def show_data(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As for `connr fit`.")],
    recipe: Annotated[str | None, typer.Option(help="A recipe by name or file; default the data's own, else photos.")] = None,
    out: Annotated[Path, typer.Option(help="The .png file to write.")] = Path("views.png"),
    settings: Set = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="Images.")] = 8,
    labels_from_folders: Annotated[bool, typer.Option(help="Label the images with the names of their subfolders.")] = False,
) -> None:
    """Draws images at the size of the recipe with random views of each phase, to check before a long training."""
    from connr import pretrained
    from connr.data import open_for
    from connr.data.named import dataset_name
    from connr.report.view_examples import view_sheet
    from connr.run_folder import write_bytes

    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out} should end in .png.")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}.")
    asked = (settings or []) + (["data.labels_from_folders=true"] if labels_from_folders else [])
    r = pretrained.chosen(recipe or dataset_name(data) or "photos", asked)
    if r.takes_features:
        raise InputError("rows of features cannot be shown as images.")
    images = open_for(r, data, labels_from_folders=r.data.labels_from_folders)
    write_bytes(out, view_sheet(images, r, count))
    left_out = f", {len(images.skipped):,} left out" if images.skipped else ""
    console().print(f"{len(images):,} images at {r.data.size} px{left_out}. Picture: {out}", highlight=False)
