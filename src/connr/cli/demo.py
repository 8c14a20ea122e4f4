"""`connr demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from connr.cli.app import Device, Set, app, console

if TYPE_CHECKING:
    from connr.demo import DemoRow


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/demo-N.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    settings: Set = None,
    device: Device = "auto",
) -> None:
    """Clusters 1,797 handwritten digits and compares with other methods. No download; under two minutes on 2 cores."""
    from connr import demo, experiment, recipe, runs
    from connr.report import page
    from connr.report.progress import ProgressBar
    from connr.report.sheet import cluster_sheet
    from connr.run_folder import RunFolder, next_free, write_bytes

    r = recipe.load("digits", settings or [], seed=seed)
    folder = RunFolder(out or next_free(Path("runs"), "demo"))
    folder.check(resume=False, way_out="choose another --out")
    experiment.fabric_for(r, device)
    screen, images = console(), demo.load(r)
    r = runs.clamp_to_data(r, len(images))
    screen.print(
        f"{len(images):,} images of {r.data.size} x {r.data.size} pixels, 10 digits; labels are used for the scores only.",
        highlight=False,
    )
    rows = list(demo.baselines(images, r.clusters or 10, seed))
    with ProgressBar(screen) as bar:
        connr_row, fitted = demo.connr(r, images, folder, device, bar)
    screen.print("\nThe same without the second phase:")
    with ProgressBar(screen) as bar:
        rows += [demo.byol_alone(r, images, folder, device, bar), connr_row]
    write_bytes(folder.picture, cluster_sheet(images.images, fitted.assigned, fitted.model.n_clusters))
    page.write(folder, images, device=device)
    screen.print()
    screen.print(_table(rows))
    screen.print(f"\nReport, to open in a browser: {folder.report}\nThe whole run: {folder.path}", highlight=False)


def _table(rows: "list[DemoRow]") -> Table:
    table = Table("method", box=None, pad_edge=False)
    for column in ("ACC", "NMI", "ARI", "seconds"):
        table.add_column(column, justify="right")
    for row in rows:
        style = "bold" if row.method == "ConNR" else None
        table.add_row(row.method, *(f"{x:.3f}" for x in (row.acc, row.nmi, row.ari)), f"{row.seconds:.1f}", style=style)
    return table
