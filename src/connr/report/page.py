"""`report.html`: the report of a run in one file without external resources."""

import base64
import hashlib
import platform
from datetime import UTC, datetime
from typing import Any

import jinja2
import torch

from connr import __version__, metrics, runs
from connr.clustering.anchors import Boundary
from connr.clustering.boundary import keep
from connr.data import ImageSet
from connr.report import baselines, colours, contact, curves, thumbnails
from connr.report.confusion import confusion, worst
from connr.report.diagnostics import diagnostics, latest_sizes
from connr.report.map import coordinates, drawn
from connr.report.near import nearby, pool
from connr.report.progress import duration
from connr.report.reading import AssignmentTable, RunRecord, check_names, images_of, read, shown
from connr.run_folder import RunFolder, write_text

PICTURES, FEWER_PICTURES = 10, 6  # of each kind on a contact sheet
MANY_CLUSTERS = 30
CONTACT_SIDE = 96  # largest side of a thumbnail in pixels
MAP_SIDE, CROWDED_MAP_SIDE, CROWDED = 64, 48, 2000
MISTAKES, PICTURES_OF_A_MISTAKE = 6, 10
TABLE_TO = 40  # largest number of classes or clusters in a table
AT_A_TIME = 512  # batch size of the search for neighbours
FR0 = 0.8  # initial share of the boundary filter, if the recipe has none


def write(folder: RunFolder, images: ImageSet | None = None, data: str | None = None, device: str = "auto") -> None:
    """Writes the report of a run, finished or not, into its folder.

    Args:
        folder: of the run.
        images: of the fit; None reads them again.
        data: their location; None for that of the fit.
        device: to compute the features of the map on.

    Raises:
        InputError: there is no run, or its images do not exist or differ.
    """
    account = read(folder)
    if account.rows and images:
        check_names(account, images, images.source or "memory")
    elif account.rows:
        images = images_of(account, data)
    write_text(folder.report, render(account, images, device))


def render(account: RunRecord, images: ImageSet | None, device: str = "auto") -> str:
    """The HTML page; for an unfinished run only curves and warnings."""
    parts = _finished(account, account.rows, images, device) if account.rows and images else {}
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=account.folder.path.resolve().name,
            account=account,
            r=account.recipe,
            unit="rows" if account.recipe.takes_features else "images",
            n=sum(latest_sizes(account)),
            diagnostics=diagnostics(account),
            charts=curves.charts(account.records, account.recipe.train.epochs),
            seconds=sum(record["seconds"] for record in account.records),
            palette=colours.palette(account.n_clusters),
            versions={
                "connr": __version__,
                "torch": torch.__version__,
                "Python": platform.python_version(),
                "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            },
            **parts,
        )
    )


def _finished(account: RunRecord, rows: AssignmentTable, images: ImageSet, device: str) -> dict[str, Any]:
    """Template values of a finished run."""
    r, k = account.recipe, account.n_clusters
    labelled = bool(rows.class_names)
    table = confusion(rows, k) if labelled else None
    mistakes = worst(table, rows, MISTAKES) if table else []
    on_map = drawn(len(rows.names), r.seed)
    groups = contact.clusters(rows, k, PICTURES if k <= MANY_CLUSTERS else FEWER_PICTURES, r.seed)
    wanted = {i for group in groups for indices in group.pictures.values() for i in indices}
    wanted |= {i for mistake in mistakes for i in mistake.images[:PICTURES_OF_A_MISTAKE].tolist()}
    among = pool(len(rows.names), r)
    features, of_backbone = _features(account, images, among, on_map, device)
    near = nearby(features, among, rows, r)
    plain = images.images[on_map] if r.takes_features else thumbnails.smaller(images.images, on_map, baselines.SIDE)
    wanted |= {i for one in near.images for i in (one.image, *one.neighbours)} if near else set()
    return {
        "rows": rows,
        "names": [shown(name) for name in rows.names],
        "classes": [shown(name) for name in rows.class_names],
        "scores": metrics.scores(rows.labels, rows.assigned.clusters) if labelled else None,
        "groups": groups,
        "largest": max(group.size for group in groups),
        "loosest": max(group.tightness or 0.0 for group in groups),
        "points": _points(account, rows, images, features[torch.isin(among, on_map)], on_map),
        "near": near,
        "shown_points": len(on_map),
        "fr0": _fr0(account),
        "beside": baselines.compare(plain, rows.assigned.clusters[on_map], rows.labels[on_map], k, r.seed, of_backbone),
        "table": table,
        "table_fits": bool(table) and max(len(rows.class_names), k) <= TABLE_TO,
        "mistakes": mistakes,
        "most_pictures": PICTURES_OF_A_MISTAKE,
        "thumbnails": {} if r.takes_features else {i: thumbnails.uri(images.images[i], CONTACT_SIDE) for i in sorted(wanted)},
        "tiny": not r.takes_features and images.images.shape[2] < MAP_SIDE,
    }


def _features(
    account: RunRecord, images: ImageSet, among: torch.Tensor, on_map: torch.Tensor, device: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Features of some images; and features of a frozen backbone for those of them on the map."""
    _, model = runs.load_model(account.folder, device)
    features, of_backbone = [], []
    for some in among.split(AT_A_TIME):
        pixels = images.images[some]
        if not account.recipe.frozen:
            features.append(model.transform(pixels))
            continue
        found = model.through_backbone(pixels)
        features.append(model.from_backbone(found))
        of_backbone.append(found[torch.isin(some, on_map)])
    return torch.cat(features), torch.cat(of_backbone) if of_backbone else None


def _points(
    account: RunRecord, rows: AssignmentTable, images: ImageSet, features: torch.Tensor, on_map: torch.Tensor
) -> dict[str, Any]:
    """Data of the map's script, from assignments.csv."""
    places = coordinates(features, account.recipe.seed)
    if account.recipe.takes_features:
        sheet = thumbnails.Sheet("", 0, 1)
    else:
        side = MAP_SIDE if len(on_map) <= CROWDED else CROWDED_MAP_SIDE
        sheet = thumbnails.sheet(thumbnails.smaller(images.images, on_map, side))
    chosen = on_map.tolist()
    return {
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "cluster": rows.assigned.clusters[on_map].tolist(),
        "edge": (~keep(rows.assigned.ratios, _fr0(account)))[on_map].int().tolist(),
        "distance": [round(d, 3) for d in rows.assigned.distances[on_map].tolist()],
        "name": [shown(rows.names[i]) for i in chosen],
        "label": [shown(rows.class_names[label]) if label >= 0 else "" for label in rows.labels[on_map].tolist()],
        "sheet": sheet.uri,
        "side": sheet.side,
        "columns": sheet.columns,
        "clusters": account.n_clusters,
    }


def _fr0(account: RunRecord) -> float:
    anchors = getattr(getattr(account.recipe.method, "group", None), "anchors", None)
    return anchors.fraction if isinstance(anchors, Boundary) else FR0


def _environment() -> jinja2.Environment:
    """A template environment with autoescaping. Style and script are inlined; the page allows no others."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("connr.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, percent=lambda share: f"{share:.0%}", sha256=sha256, shown=shown)
    return environment


def sha256(text: str) -> str:
    """The hash of an inline style or script for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
