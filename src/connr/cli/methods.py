"""`connr methods`."""

import json
from typing import Annotated

import typer
from rich.table import Table

from connr.cli.app import app, console
from connr.errors import InputError


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/methods.md, with equations.")] = False,
) -> None:
    """The methods that `method=NAME` may name: those of connr, of installed packages and of --plugin."""
    from connr.methods import catalogue

    if as_json and as_markdown:
        raise InputError("--json and --markdown exclude each other; leave out one.")
    if as_markdown:
        typer.echo(catalogue.markdown(), nl=False)
    elif as_json:
        typer.echo(json.dumps([one._asdict() for one in catalogue.entries()], indent=1))
    else:
        table = Table("method", "idea", "phases", "views", "assigner", "reference", box=None, pad_edge=False)
        for one in catalogue.entries():
            table.add_row(*catalogue.row(one))
        console().print(table)
