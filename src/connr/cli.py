"""The command `connr`. Everything heavy is imported inside the commands, so that --help answers at once."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from connr import __version__
from connr.errors import Diverged, InputError

if TYPE_CHECKING:
    from connr.demo import Row
    from connr.recipe import Recipe

STEPS_TIMED = 20
GONE_WRONG, BAD_INPUT, INTERRUPTED = 1, 2, 130


class OneLineErrors(TyperGroup):
    """Bad input ends in one message and exit code 2, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (InputError, Diverged, OSError) as fault:
            Console(stderr=True, soft_wrap=True).print(f"connr: {fault}", markup=False, highlight=False)
            raise typer.Exit(BAD_INPUT if isinstance(fault, InputError) else GONE_WRONG) from fault


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Clusters images without labels (ConNR, NeurIPS 2023).",
)
recipes_app = typer.Typer(no_args_is_help=True, help="The recipes that come with connr.")
app.add_typer(recipes_app, name="recipes")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe: train.epochs=50. Repeatable.")
]


def console() -> Console:
    return Console(soft_wrap=True)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"connr {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/demo-N.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    settings: Set = None,
    device: Device = "auto",
) -> None:
    """Clusters 1,797 handwritten digits on this machine, and compares. No download; under two minutes on 2 cores."""
    from connr import demo, experiment, recipe, run
    from connr.report.progress import ProgressBar
    from connr.report.sheet import cluster_sheet
    from connr.run_folder import RunFolder, next_free, write_bytes

    r = recipe.load("digits", settings or [], seed=seed)
    folder = RunFolder(out or next_free(Path("runs"), "demo"))
    folder.check(resume=False)
    experiment.fabric_for(r, device)
    screen, images = console(), demo.load(r)
    r = run.fitted_to(r, len(images))
    screen.print(
        f"{len(images):,} images of {r.data.size} x {r.data.size} pixels, 10 digits; labels are used for the scores only.",
        highlight=False,
    )
    rows = list(demo.baselines(images, r.clusters or 10, seed))
    with ProgressBar(screen) as bar:
        connr_row, fitted = demo.connr(r, images, folder, device, bar)
    screen.print("\nThe same without stage 2:")
    with ProgressBar(screen) as bar:
        rows += [demo.byol_alone(r, images, folder, device, bar), connr_row]
    write_bytes(folder.picture, cluster_sheet(images.images, fitted.assigned, len(fitted.model.centroids)))
    screen.print()
    screen.print(_table(rows))
    screen.print(f"\nTen images of each cluster: {folder.picture}\nThe whole run: {folder.path}", highlight=False)


@app.command()
def fit(
    data: Annotated[str, typer.Argument(help="A folder of pictures, an .npz with `images`, or `digits`.")],
    clusters: Annotated[int | None, typer.Option(min=2, help="How many clusters; a recipe may know.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A name of `connr recipes list`, or a YAML file; default the data's own, else photos.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/DATA-N.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    settings: Set = None,
    labels_from_folders: Annotated[bool, typer.Option(help="Score against the names of the subfolders.")] = False,
    device: Device = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Clusters the images in DATA and writes a run folder: assignments.csv, clusters.png, the model."""
    from connr.run_folder import RunFolder, next_free

    if resume and out is None:
        raise InputError("--resume needs --out: the folder of the run to go on with.")
    folder = RunFolder(out or next_free(Path("runs"), Path(data).stem or "run"))
    folder.check(resume)
    settings = (settings or []) + (["data.labels_from_folders=true"] if labels_from_folders else [])
    r = _recipe_of(data, recipe, settings, folder if resume else None, clusters=clusters, seed=seed)

    from connr import run
    from connr.data import open_images
    from connr.report.progress import ProgressBar
    from connr.report.sheet import cluster_sheet
    from connr.run_folder import write_bytes

    screen = Console(quiet=True) if quiet else console()
    images = open_images(
        data, r.data.size, r.data.channels, labels_from_folders=r.data.labels_from_folders, leave_out=folder.path
    )
    r = run.fitted_to(r, len(images))
    screen.print(
        f"{len(images):,} images at {r.data.size} px into {r.clusters} clusters: {r.train.epochs} epochs, "
        f"the first {r.t0} without neighbours. Run folder: {folder.path}",
        highlight=False,
    )
    if images.skipped:
        screen.print(f"{len(images.skipped)} pictures could not be read and are left out; see {folder.skipped}.")
    try:
        with ProgressBar(screen, quiet) as bar:
            fitted = run.fit(r, images, folder, resume=resume, device=device, listener=bar)
    except KeyboardInterrupt:
        screen.print(f"\nStopped. To go on: connr fit {shlex.quote(data)} --out {shlex.quote(str(folder.path))} --resume")
        raise typer.Exit(INTERRUPTED) from None
    write_bytes(folder.picture, cluster_sheet(images.images, fitted.assigned, len(fitted.model.centroids)))
    if images.labelled:
        _print_scores(run.evaluate(folder), screen)
    screen.print(f"Assignments: {folder.assignments}\nPicture: {folder.picture}", highlight=False)


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Scores a run against the labels of its images: ACC, NMI, ARI, n."""
    from connr import run
    from connr.run_folder import RunFolder

    scores = run.evaluate(RunFolder(run_folder))
    if as_json:
        typer.echo(json.dumps(scores))
    else:
        _print_scores(scores, console())


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
        for cell, images, steps, here, gpu in command.estimates(todo):
            row = f"{cell.data_set:14s} {cell.row.name:18s} {images:,} images, {steps:,} steps a seed: about "
            screen.print(row + f"{duration(here)} here, {duration(gpu)} on a data-centre GPU", highlight=False)
        return

    def listener(cell: Any) -> ProgressBar:
        screen.print(f"{cell.data_set}, {cell.row.name}, seed {cell.seed}", highlight=False)
        return ProgressBar(screen, quiet=not screen.is_terminal)

    line += f" --seeds {seeds}"
    typer.echo(command.carry_out(what, line, todo, command.open_all(todo, data), out, into, device, listener))


@recipes_app.command("list")
def list_recipes() -> None:
    """Names and what they are for."""
    from connr import recipe

    table = Table("recipe", "for", "clusters", "epochs", box=None, pad_edge=False)
    for name in recipe.names():
        r = recipe.load(name)
        table.add_row(name, r.description, str(r.clusters or "--clusters"), str(r.train.epochs))
    console().print(table)


@recipes_app.command("show")
def show_recipe(name: str, settings: Set = None) -> None:
    """The YAML; with --set, the whole recipe as it would be run."""
    from connr import recipe

    typer.echo((recipe.load(name, settings).to_yaml() if settings else recipe.text(name)).rstrip())


@recipes_app.command("copy")
def copy_recipe(name: str, to: Annotated[Path, typer.Argument(help="A file to be written.")]) -> None:
    """Writes a recipe to a file of your own, to be changed and given to --recipe."""
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


def _recipe_of(data: str, name: str | None, settings: list[str], resumed: Any, **changes: Any) -> "Recipe":
    """The recipe asked for; to resume, the run's own unless one is asked for; else the one named like the data, or photos."""
    from connr import recipe

    asked = bool(name or settings or any(value is not None for value in changes.values()))
    if resumed and not asked:
        return recipe.load(str(resumed.recipe))
    from connr.data.named import NAMED

    r = recipe.load(name or (data if data in NAMED and not Path(data).exists() else "photos"), settings, **changes)
    if r.clusters is None:
        raise InputError("the number of clusters is not given; add --clusters K.")
    return r


def _table(rows: "list[Row]") -> Table:
    table = Table("method", box=None, pad_edge=False)
    for column in ("ACC", "NMI", "ARI", "seconds"):
        table.add_column(column, justify="right")
    for row in rows:
        style = "bold" if row.method == "ConNR" else None
        table.add_row(row.method, *(f"{x:.3f}" for x in (row.acc, row.nmi, row.ari)), f"{row.seconds:.1f}", style=style)
    return table


def _print_scores(scores: dict[str, float], screen: Console) -> None:
    screen.print(
        f"ACC {scores['acc']:.4f}  NMI {scores['nmi']:.4f}  ARI {scores['ari']:.4f}  n {scores['n']}", highlight=False
    )
