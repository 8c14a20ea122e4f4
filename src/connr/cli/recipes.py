"""`connr recipes list | table | show | copy`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from connr.cli.app import Set, app, console
from connr.errors import InputError

recipes_app = typer.Typer(no_args_is_help=True, help="The recipes of the package.")
app.add_typer(recipes_app, name="recipes")


@recipes_app.command("list")
def list_recipes() -> None:
    """Lists names and purposes."""
    from connr import recipe

    table = Table("recipe", "for", "clusters", "epochs", box=None, pad_edge=False)
    notes = []
    for name in recipe.names():
        r = recipe.load(name)
        table.add_row(name, r.description, str(r.clusters or "--clusters"), str(r.train.epochs))
        if note := recipe.crowded(r):
            notes.append(f"{name}: {note}")
    console().print(table)
    for note in notes:
        console().print(f"\nNote: {note}")


@recipes_app.command("table")
def table_of_recipes() -> None:
    """Prints all values in which recipes differ, as the Markdown page of the documentation."""
    from connr.recipe.table import markdown

    typer.echo(markdown(), nl=False)


@recipes_app.command("show")
def show_recipe(name: str, settings: Set = None) -> None:
    """Prints the YAML; with --set, the complete recipe."""
    from connr import recipe

    typer.echo((recipe.load(name, settings).to_yaml() if settings else recipe.text(name)).rstrip())


@recipes_app.command("copy")
def copy_recipe(name: str, to: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Writes a recipe to a file, to edit it and pass it to --recipe."""
    from connr import recipe

    content = recipe.text(name)
    if to.is_dir():
        to = to / f"{name}.yaml"
    if to.exists():
        raise InputError(f"{to} exists; choose another name.")
    if to.suffix not in {".yaml", ".yml"}:
        raise InputError(f"{to} should end in .yaml.")
    try:
        to.write_text(content, encoding="utf-8")
    except OSError as fault:
        raise InputError(f"{to} cannot be written: {fault.strerror}.") from fault
    typer.echo(f"connr fit DATA --recipe {to}")
