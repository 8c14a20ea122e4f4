"""What all commands share: the app, errors as one line, common options. Nothing heavy is imported here."""

import errno
import faulthandler
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from connr import __version__, stops
from connr.cli.screen import Screen, prepare_streams, silence
from connr.errors import Diverged, ExportMismatch, InputError, NotWritten, RankLost, Stopped

GONE_WRONG, BAD_INPUT = 1, 2


class OneLineErrors(TyperGroup):
    """Bad input ends in one message and exit code 2, never in a traceback."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        prepare_streams()
        return super().main(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        """The first of the signals to stop ends any command at once; what it was writing is taken away."""
        try:
            with stops.at_once():
                return super().invoke(ctx)
        except Stopped as stop:
            Screen(stderr=True).print("\nStopped.")
            raise typer.Exit(128 + stop.number) from stop
        except BrokenPipeError as fault:  # who read standard output has seen enough, as `head` does
            if sys.stdout is not None:
                silence(sys.stdout)
            raise typer.Exit(GONE_WRONG) from fault
        except (InputError, Diverged, ExportMismatch, RankLost, OSError) as fault:
            Screen(stderr=True).print(f"connr: {said(fault)}")
            raise typer.Exit(BAD_INPUT if isinstance(fault, InputError) else GONE_WRONG) from fault


def said(fault: Exception) -> str:
    """The message of a fault; of the system's, which file and what to do about it."""
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
    return Screen(quiet=not speaks())


def speaks() -> bool:
    """Whether this process is the one that talks and writes: always, but under `torchrun` only its first."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if not faulthandler.is_enabled():
        faulthandler.enable()  # a crash in compiled code leaves the stack of the Python code that called it
    if version:
        typer.echo(f"connr {__version__}")
        raise typer.Exit


def print_scores(scores: dict[str, float], screen: Screen) -> None:
    screen.print(
        f"ACC {scores['acc']:.4f}  NMI {scores['nmi']:.4f}  ARI {scores['ari']:.4f}  n {scores['n']}", highlight=False
    )
