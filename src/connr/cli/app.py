"""The app, error handling and common options of all commands. Nothing heavy is imported here."""

import errno
import faulthandler
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from connr import __version__, stops
from connr.cli.screen import Screen, prepare_streams, silence
from connr.errors import Diverged, ExportMismatch, InputError, NotWritten, RankLost, Stopped

RUN_FAILED, BAD_INPUT = 1, 2


class OneLineErrors(TyperGroup):
    """Prints errors as one message instead of a traceback; exit code 2 for bad input, 1 for other failures."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        prepare_streams()
        return super().main(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. The first stop signal ends it at once and removes unfinished files."""
        try:
            with stops.at_once():
                return super().invoke(ctx)
        except Stopped as stop:
            Screen(stderr=True).print("\nStopped.")
            raise typer.Exit(128 + stop.number) from stop
        except BrokenPipeError as fault:  # the reader of standard output has ended, for example `head`
            if sys.stdout is not None:
                silence(sys.stdout)
            raise typer.Exit(RUN_FAILED) from fault
        except (InputError, Diverged, ExportMismatch, RankLost, OSError) as fault:
            Screen(stderr=True).print(f"connr: {error_message(fault)}")
            raise typer.Exit(BAD_INPUT if isinstance(fault, InputError) else RUN_FAILED) from fault


def error_message(fault: Exception) -> str:
    """The message of an exception; for an OSError with the file and the way out."""
    if not isinstance(fault, OSError) or isinstance(fault, NotWritten) or not fault.strerror:
        return str(fault)
    full = fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    where = f"{fault.filename}: " if fault.filename else ""
    return f"{where}{fault.strerror}" + ("; free some space there, or write elsewhere." if full else ".")


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Clusters images without labels (ConNR, NeurIPS 2023).",
)
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe: train.epochs=50. Repeatable.")
]


def console() -> Screen:
    return Screen(quiet=not is_main_process())


def is_main_process() -> bool:
    """Whether this process prints and writes files: under `torchrun` only rank 0."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option("--plugin", metavar="FILE", help="A Python file, or a module, that registers methods. Repeatable."),
    ] = None,
) -> None:
    if not faulthandler.is_enabled():
        faulthandler.enable()  # prints the Python stack on a crash in compiled code
    if plugin:  # through the environment, so that the processes of --devices import them too
        named = [str(Path(place).absolute()) if place.endswith(".py") else place for place in plugin]
        os.environ["CONNR_PLUGINS"] = os.pathsep.join([*filter(None, [os.environ.get("CONNR_PLUGINS", "")]), *named])
    if version:
        typer.echo(f"connr {__version__}")
        raise typer.Exit


def print_scores(scores: dict[str, float], screen: Screen) -> None:
    screen.print(
        f"ACC {scores['acc']:.4f}  NMI {scores['nmi']:.4f}  ARI {scores['ari']:.4f}  n {scores['n']}", highlight=False
    )
