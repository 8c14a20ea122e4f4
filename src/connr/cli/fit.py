"""`connr fit`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connr.cli.app import Device, Set, app, console, print_scores, speaks
from connr.cli.screen import Screen
from connr.errors import InputError, NotWritten, RankLost, Stopped

if TYPE_CHECKING:
    from connr.recipe import Recipe


@app.command()
def fit(
    data: Annotated[
        str,
        typer.Argument(help="A folder of pictures, an .npz with `images` or `features`, .npy, .parquet; `connr data list`."),
    ],
    clusters: Annotated[int | None, typer.Option(min=2, help="How many clusters; a recipe may know.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A name of `connr recipes list`, or a YAML file; default the data's own, features or photos."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/DATA-N.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    settings: Set = None,
    labels_from_folders: Annotated[bool, typer.Option(help="Score against the names of the subfolders.")] = False,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes that share each batch, one to a GPU.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Clusters the images in DATA and writes a run folder: assignments.csv, report.html, the model."""
    from connr.data.named import dataset_name
    from connr.run_folder import RunFolder, next_free

    if resume and out is None:
        raise InputError("--resume needs --out: the folder of the run to go on with.")
    folder = RunFolder(out or next_free(Path("runs"), dataset_name(data) or Path(data).stem or "run"))
    if speaks():
        folder.check(resume)
    settings = (settings or []) + (["data.labels_from_folders=true"] if labels_from_folders else [])
    r = _recipe_of(data, recipe, settings, folder if resume else None, clusters=clusters, seed=seed)

    from connr import pretrained, runs, stops
    from connr.data import open_for
    from connr.recipe import crowded
    from connr.report import page
    from connr.report.progress import ProgressBar
    from connr.report.sheet import cluster_sheet
    from connr.run_folder import write_bytes

    screen = Screen(quiet=True) if quiet else console()
    try:
        with stops.at_once():
            images = open_for(
                r, data, labels_from_folders=r.data.labels_from_folders, leave_out=folder.path, cache=folder.cache
            )
    except Stopped as stop:
        Screen(stderr=True).print(f"\nStopped while {data} was read; the same command reads it anew.")
        raise typer.Exit(128 + stop.number) from None
    r = runs.clamp_to_data(r, len(images))
    what = "rows of features" if r.takes_features else f"images at {r.data.size} px"
    if said := pretrained.describe_backbone(r):
        screen.print(said)
    screen.print(
        f"{len(images):,} {what} into {r.clusters} clusters: {r.train.epochs} epochs, "
        f"the first {r.t0} without neighbours. Run folder: {folder.path}",
        highlight=False,
    )
    if note := crowded(r):
        screen.print(f"Note: {note}", highlight=False)
    if resume and folder.assignments.is_file():
        screen.print("This run had ended; what it found is written again.")
    if images.skipped:
        screen.print(f"{len(images.skipped)} pictures could not be read and are left out; see {folder.skipped}.")
    again = f"connr fit {shlex.quote(data)} --out {shlex.quote(str(folder.path))} --resume"
    try:
        with ProgressBar(screen, quiet or not speaks()) as bar:
            fitted = runs.fit(r, images, folder, resume=resume, device=device, devices=devices, callback=bar)
        if not speaks():
            return
        with stops.at_once():
            if not r.takes_features:
                write_bytes(folder.picture, cluster_sheet(images.images, fitted.assigned, len(fitted.model.centroids)))
            page.write(folder, images, device=device)
    except Stopped as stop:
        screen.print(f"\nStopped; {runs.saved_progress(folder)}. To go on: {again}")
        raise typer.Exit(128 + stop.number) from None
    except (NotWritten, RankLost) as fault:
        screen.print(f"\nTo go on: {again}")
        raise fault
    if images.labelled:
        print_scores(runs.evaluate(folder), screen)
    screen.print(f"Assignments: {folder.assignments}\nReport, to open in a browser: {folder.report}", highlight=False)


def _refuse_download(r: "Recipe", settings: list[str], folder: Any) -> None:
    """A run folder may be a stranger's: its recipe downloads nothing unless the command names the network as well.

    Raises:
        InputError: the weights are not on this machine.
    """
    from connr import networks
    from connr.recipe import Pretrained

    if not isinstance(r.backbone, Pretrained) or any(each.strip().startswith("backbone.model") for each in settings):
        return
    model = r.backbone.model
    needed = r.backbone.weights is None or model.startswith("hub:")
    if needed and not model.startswith(("run:", "module:")) and not networks.prefer_if_cached(model):
        raise InputError(
            f"the run in {folder.path} is on {model}, whose weights are not on this machine, and a run folder downloads "
            f"nothing by itself; add --set backbone.model={shlex.quote(model)} to have them fetched."
        )


def _recipe_of(data: str, name: str | None, settings: list[str], resumed: Any, **changes: Any) -> "Recipe":
    """The recipe asked for; to resume, the changes over the run's own unless another is; else that of the data, or photos."""
    from connr import pretrained, recipe

    if resumed and name is None:
        from connr.runs import check_recipe

        there = recipe.load(str(resumed.recipe))
        asked = recipe.load(there, settings, **changes)
        check_recipe(resumed, asked, before_fitted=True)
        _refuse_download(asked, settings, resumed)
        return asked
    from connr.data import holds_features
    from connr.data.named import dataset_name

    own = dataset_name(data) or ("features" if holds_features(data) else "photos")
    r = pretrained.chosen(own if name is None else name, settings, **changes)
    if r.clusters is None:
        raise InputError("the number of clusters is not given; add --clusters K.")
    return r
