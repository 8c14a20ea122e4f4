"""`connr report`."""

from pathlib import Path
from typing import Annotated

import typer

from connr.cli.app import Device, app, console


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; an unfinished one has only curves.")],
    data: Annotated[str | None, typer.Argument(help="The images of the run, if they moved.")] = None,
    device: Device = "auto",
) -> None:
    """Writes report.html again: clusters, map, curves and warnings in one file for any browser."""
    from connr.report import page
    from connr.run_folder import RunFolder

    folder = RunFolder(run_folder)
    page.write(folder, data=data, device=device)
    console().print(f"Report: {folder.report}", highlight=False)
