"""`connr fit`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connr.cli.app import Device, Set, app, console, is_main_process, print_scores
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
    clusters: Annotated[int | None, typer.Option(min=2, help="Number of clusters; some recipes set it.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A name of `connr recipes list`, or a YAML file; default that of the data set, features or photos."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/DATA-N.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    settings: Set = None,
    labels_from_folders: Annotated[bool, typer.Option(help="Score against the names of the subfolders.")] = False,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes that share each batch, one per GPU.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Clusters the images in DATA and writes a run folder: assignments.csv, report.html, the model."""
    from connr.data.named import dataset_name
    from connr.run_folder import RunFolder, next_free

    if resume and out is None:
        raise InputError("--resume needs --out: the folder of the run to continue.")
    folder = RunFolder(out or next_free(Path("runs"), dataset_name(data) or Path(data).stem or "run"))
    if is_main_process():
        folder.check(resume)
    settings = (settings or []) + (["data.labels_from_folders=true"] if labels_from_folders else [])
    r = _recipe_of(data, recipe, settings, folder if resume else None, clusters=clusters, seed=seed)

    from connr import pretrained, runs, stops
    from connr.data import open_for
    from connr.recipe import crowded
    from connr.registry import places_in_environment
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
        Screen(stderr=True).print(f"\nStopped while reading {data}; run the same command again.")
        raise typer.Exit(128 + stop.number) from None
    r = runs.clamp_to_data(r, len(images))
    what = "rows of features" if r.takes_features else f"images at {r.data.size} px"
    if message := pretrained.describe_backbone(r):
        screen.print(message)
    screen.print(
        f"{len(images):,} {what} into {r.clusters} clusters by {method_name(r)}: {r.train.epochs} epochs"
        f"{phases_in_words(r)}. Run folder: {folder.path}",
        highlight=False,
    )
    if note := crowded(r):
        screen.print(f"Note: {note}", highlight=False)
    if resume and folder.assignments.is_file():
        screen.print("This run is finished; its results are written again.")
    if images.skipped:
        screen.print(f"{len(images.skipped)} pictures could not be read and are left out; see {folder.skipped}.")
    plugins = "".join(f" --plugin {shlex.quote(place)}" for place in places_in_environment())
    again = f"connr{plugins} fit {shlex.quote(data)} --out {shlex.quote(str(folder.path))} --resume"
    try:
        with ProgressBar(screen, quiet or not is_main_process()) as bar:
            fitted = runs.fit(r, images, folder, resume=resume, device=device, devices=devices, callback=bar)
        if not is_main_process():
            return
        with stops.at_once():
            if not r.takes_features:
                write_bytes(folder.picture, cluster_sheet(images.images, fitted.assigned, fitted.model.n_clusters))
            page.write(folder, images, device=device)
    except Stopped as stop:
        screen.print(f"\nStopped; {runs.saved_progress(folder)}. To continue: {again}")
        raise typer.Exit(128 + stop.number) from None
    except (NotWritten, RankLost) as fault:
        screen.print(f"\nTo continue: {again}")
        raise fault
    if images.labelled:
        print_scores(runs.evaluate(folder), screen)
    screen.print(f"Assignments: {folder.assignments}\nReport, to open in a browser: {folder.report}", highlight=False)


def method_name(r: "Recipe") -> str:
    """The name of the method, with its base: "byol + connr"."""
    base = getattr(r.method, "base", None)
    base = getattr(base, "name", base)
    return f"{base} + {r.method.name}" if base else r.method.name


def phases_in_words(r: "Recipe") -> str:
    """The first epochs of the phases as text; empty for a single phase."""
    from connr import experiment
    from connr.engine import Timeline

    segments = Timeline(experiment.phases_of(r), r.train.epochs, r.train.batch_size, r.train.batch_size).segments
    if len(segments) < 2:
        return ""
    return ", " + ", ".join(f"{segment.phase.name} from epoch {segment.first_epoch + 1}" for segment in segments)


def _refuse_download(r: "Recipe", settings: list[str], folder: Any) -> None:
    """Refuses a download for a recipe of a run folder, which may be foreign, unless the command names the network.

    Raises:
        InputError: the weights are not on this machine.
    """
    from connr import networks
    from connr.networks.pretrained import Pretrained

    if not isinstance(r.backbone, Pretrained) or any(each.strip().startswith("backbone.model") for each in settings):
        return
    model = r.backbone.model
    needed = r.backbone.weights is None or model.startswith("hub:")
    if needed and not model.startswith(("run:", "module:")) and not networks.prefer_if_cached(model):
        raise InputError(
            f"the run in {folder.path} uses {model}, whose weights are not on this machine, and a run folder alone starts no "
            f"download; add --set backbone.model={shlex.quote(model)} to download them."
        )


def _recipe_of(data: str, name: str | None, settings: list[str], resumed: Any, **changes: Any) -> "Recipe":
    """The recipe `name`; without a name that of the resumed run, of the data set, features or photos; with changes."""
    from connr import pretrained, recipe

    if resumed and name is None:
        from connr.runs import check_recipe

        there = recipe.load(str(resumed.recipe))
        changed = recipe.load(there, settings, **changes)
        check_recipe(resumed, changed, before_fitted=True)
        _refuse_download(changed, settings, resumed)
        return changed
    from connr.data import holds_features
    from connr.data.named import dataset_name

    default = dataset_name(data) or ("features" if holds_features(data) else "photos")
    r = pretrained.chosen(default if name is None else name, settings, **changes)
    if r.clusters is None:
        raise InputError("the number of clusters is not given; add --clusters K.")
    return r
