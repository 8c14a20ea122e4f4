"""`connr reproduce`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from connr.cli.app import Device, Set, app, console
from connr.errors import InputError

STEPS_TIMED = 20


@app.command()
def reproduce(
    what: Annotated[str, typer.Argument(help="table1 to table5, or figure2 to figure5.")],
    recipe: Annotated[str | None, typer.Option(help="Run the same rows on the data set of this recipe.")] = None,
    data: Annotated[str | None, typer.Option(help="Its images; not needed for `digits`.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    settings: Set = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="The same as --set train.epochs=N.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs; finished runs are not repeated.")] = Path("runs/reproduced"),
    dry: Annotated[bool, typer.Option("--dry-run", help="Print each row's command, images and steps, and stop.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a few steps of each row, print the estimated total time, and stop.")
    ] = False,
    into: Annotated[Path | None, typer.Option(help="Also write the table into this Markdown file.")] = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes that share each batch, one per GPU.")] = 1,
) -> None:
    """Runs the rows of a table of the paper or draws a figure; prints mean ± std and the paper's numbers."""
    from connr.reproduce import plan

    laid = (*(settings or []), *([f"train.epochs={epochs}"] if epochs else []))
    line = " ".join(["connr reproduce", what, *(["--recipe", recipe] if recipe else [])])
    changed = "".join(f" --set {shlex.quote(setting)}" for setting in laid)
    screen = console()
    if what == plan.SPEED:
        if devices > 1:
            raise InputError(f"{what} times the steps of one process: leave out --devices {devices}.")
        recipes = plan.speed_recipes(recipe, laid)
        if dry or measure:
            for name, r in recipes.items():
                screen.print(f"{name}: {STEPS_TIMED} steps of each stage are timed, batches of {r.train.batch_size}")
            return
        from connr.reproduce import command

        typer.echo(command.time_steps(line + changed, recipes, STEPS_TIMED, out, into, device))
        return
    todo = plan.of(what, recipe, seeds, out, laid)
    plan.check_data(what, todo, data)
    if dry or measure:
        _print_plan(what, todo, seeds, measure)
        return

    from connr.report.progress import ProgressBar
    from connr.reproduce import command

    def callback(cell: Any) -> ProgressBar:
        screen.print(f"{cell.data_set}, {cell.row.name}, seed {cell.seed}", highlight=False)
        return ProgressBar(screen, quiet=not screen.is_terminal)

    if data:
        line += f" --data {command.without_its_place(data)}"
    line += f"{changed} --seeds {seeds}"
    images = command.open_all(todo, data)
    typer.echo(command.carry_out(what, line, todo, images, out, into, device, callback, devices))


def _print_plan(what: str, todo: list[Any], seeds: int, measure: bool) -> None:
    """Prints each row with the equivalent `connr fit` command, and with estimated times if `measure`."""
    from connr.reproduce import TABLES
    from connr.reproduce.plan import counts

    screen = console()
    for cell, (images, steps) in counts(todo):
        screen.print(f"{cell.data_set:14s} {cell.row.name}: {images:,} images, {steps:,} steps a seed, {seeds} seeds")
        screen.print(f"  {cell.command}", style="dim")
    for data_set in dict.fromkeys(cell.data_set for cell in todo):
        if what in TABLES and (rest := TABLES[what].not_run(data_set)):
            screen.print(f"{data_set:14s} not run here, the paper's numbers are printed: {', '.join(rest)}")
    if not measure:
        screen.print("Add --measure to time a few steps of each row.")
        return
    from connr.report.progress import duration
    from connr.reproduce import command

    screen.print("Timing a few steps of each row; estimates are unreliable on a busy machine.")
    for cell, (here, gpu) in command.costs(todo):
        row = f"{cell.data_set:14s} {cell.row.name}: about {duration(here)} here"
        screen.print(f"{row}, {duration(gpu)} on a data-centre GPU, a seed")
