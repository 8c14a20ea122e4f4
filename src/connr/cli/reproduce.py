"""`connr reproduce`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from connr.cli.app import Device, app, console

STEPS_TIMED = 20


@app.command()
def reproduce(
    what: Annotated[str, typer.Argument(help="table1 to table5, or figure2 to figure5.")],
    recipe: Annotated[str | None, typer.Option(help="Run the same rows on the data set of this recipe.")] = None,
    data: Annotated[str | None, typer.Option(help="Its images; not needed for `digits`.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Every run is kept here; done ones are not done again.")] = Path("runs/reproduced"),
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what each row would take, and stop.")] = False,
    into: Annotated[Path | None, typer.Option(help="Put the table into this Markdown file as well.")] = None,
    device: Device = "auto",
) -> None:
    """Runs the rows of one of the paper's tables or draws a figure, with mean ± std beside the paper's numbers."""
    from connr.report.progress import ProgressBar, duration
    from connr.reproduce import command

    line = " ".join(["connr reproduce", what, *(["--recipe", recipe] if recipe else [])])
    if what == command.SPEED:
        typer.echo(command.time_steps(line, recipe, STEPS_TIMED, out, into, device))
        return
    todo, screen = command.plan(what, recipe, seeds, out), console()
    if dry:
        screen.print("Timing a few steps of each row; estimates, and on a busy machine poor ones.")
        for cell, images, steps, here, gpu in command.estimates(todo):
            row = f"{cell.data_set:14s} {cell.row.name:18s} {images:,} images, {steps:,} steps a seed: about "
            screen.print(row + f"{duration(here)} here, {duration(gpu)} on a data-centre GPU", highlight=False)
            screen.print(f"  {cell.command}", style="dim", highlight=False)
        return

    def listener(cell: Any) -> ProgressBar:
        screen.print(f"{cell.data_set}, {cell.row.name}, seed {cell.seed}", highlight=False)
        return ProgressBar(screen, quiet=not screen.is_terminal)

    if data:
        line += f" --data {command.without_its_place(data)}"
    line += f" --seeds {seeds}"
    typer.echo(command.carry_out(what, line, todo, command.open_all(todo, data), out, into, device, listener))
