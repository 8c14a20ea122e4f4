"""`connr features`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from connr.cli.app import Device, app, console
from connr.cli.screen import Screen


@app.command()
def features(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder of pictures, an .npz with `images`, or `digits`.")],
    backbone: Annotated[
        str, typer.Option(help="torchvision:NAME[:WEIGHTS], timm:NAME, hub:FOLDER or USER/NAME, or run:FOLDER.")
    ],
    out: Annotated[Path, typer.Option(help="A .npz, .npy or .parquet file.")],
    weights: Annotated[str | None, typer.Option(help="A file of weights, or `random`; default the pretrained ones.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Side of the images in pixels; default that of the network.")] = None,
    labels_from_folders: Annotated[bool, typer.Option(help="Store the names of the subfolders as labels.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
    device: Device = "auto",
) -> None:
    """Extracts features of pictures with a pretrained network, for `connr fit` or other programs."""
    from connr.inference import embedding

    embedding.check_out(out, overwrite)
    settings = [f"backbone.weights={weights}"] if weights else []
    r = embedding.recipe_for(backbone, settings + ([f"data.size={size}"] if size is not None else []))
    notes = Screen(stderr=True)
    with Progress(console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("features")
        n, width, skipped = embedding.embed(
            r,
            data,
            out,
            labels_from_folders=labels_from_folders,
            device=device,
            advance=lambda done, of: bar.update(task, completed=done, total=of),
        )
    if skipped:
        notes.print(f"{len(skipped):,} could not be read and are left out; see {out.with_name(f'{out.stem}.skipped.csv')}.")
    console().print(f"{n:,} rows of {width:,} features: {out}")
