"""What all commands share: the app, errors as one line, common options. Nothing heavy is imported here."""

import faulthandler
import os
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from connr import __version__
from connr.errors import Diverged, InputError, NotTheSame, RankLost, Stopped

GONE_WRONG, BAD_INPUT = 1, 2


class OneLineErrors(TyperGroup):
    """Bad input ends in one message and exit code 2, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Stopped as stop:
            Console(stderr=True).print("\nStopped.", highlight=False)
            raise typer.Exit(128 + stop.number) from stop
        except (InputError, Diverged, NotTheSame, RankLost, OSError) as fault:
            Console(stderr=True, soft_wrap=True).print(f"connr: {fault}", markup=False, highlight=False)
            raise typer.Exit(BAD_INPUT if isinstance(fault, InputError) else GONE_WRONG) from fault


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


def console() -> Console:
    return Console(soft_wrap=True, markup=False, highlight=False, quiet=not speaks())  # names may hold [brackets]


def speaks() -> bool:
    """Whether this process is the one that talks and writes: always, but under `torchrun` only its first."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if not faulthandler.is_enabled():
        faulthandler.enable()  # a crash in compiled code leaves the stack of the Python code that called it
    if version:
        typer.echo(f"connr {__version__}")
        raise typer.Exit


def print_scores(scores: dict[str, float], screen: Console) -> None:
    screen.print(
        f"ACC {scores['acc']:.4f}  NMI {scores['nmi']:.4f}  ARI {scores['ari']:.4f}  n {scores['n']}", highlight=False
    )
