"""The neighbours of one picture among all images of a run: contextual (Eqs. 3-7, over the whole set) and by cosine."""

from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from connr import runs
from connr.data.folder import read_picture
from connr.data.rows import Rows as Pixels
from connr.errors import InputError
from connr.recipe import Recipe
from connr.report.near import each_way, purities
from connr.report.reading import AssignmentTable, images_of, read
from connr.report.sheet import gap_between, mosaic
from connr.run_folder import RunFolder

COLUMNS = ("neighbourhood", "rank", "path", "similarity", "cluster", "label")


class Neighbours(NamedTuple):
    """The neighbours of one picture.

    Attributes:
        name: of the picture.
        cluster: of the picture.
        ways: for each of `report.near.WAYS` the indices of its neighbours among the run's images, the nearest first.
        similarities: for each the cosines, in that order.
        purity: for each the purity over the whole set, where the run has labels.
        rows: the assignments of the run.
        picture: pixels (c h w).
        images: of the run.
    """

    name: str
    cluster: int
    ways: dict[str, Int[Tensor, " k"]]
    similarities: dict[str, Float[Tensor, " k"]]
    purity: dict[str, float]
    rows: AssignmentTable
    picture: UInt8[Tensor, "c h w"]
    images: Pixels

    def table(self) -> list[tuple[object, ...]]:
        """Rows of `COLUMNS`."""
        found: list[tuple[object, ...]] = []
        for way, indices in self.ways.items():
            for rank, (i, cosine) in enumerate(zip(indices.tolist(), self.similarities[way].tolist(), strict=True), 1):
                label = int(self.rows.labels[i])
                name = self.rows.class_names[label] if label >= 0 else ""
                found.append((way, rank, self.rows.names[i], f"{cosine:.6f}", int(self.rows.assigned.clusters[i]), name))
        return found


def neighbours(folder: RunFolder, picture: str, count: int = 10, data: str | None = None, device: str = "auto") -> Neighbours:
    """The `count` neighbours of a picture by contextual similarity and by cosine.

    Args:
        folder: a finished run.
        picture: a name in assignments.csv, or the path of a new picture.
        count: neighbours besides the picture itself.
        data: the images of the run, if they moved.
        device: to compute features on.

    Raises:
        InputError: there is no such run, its images are not there, there is no such picture, or `count` is out of range.
    """
    account = read(folder)
    if account.rows is None:
        raise InputError(f"{folder.path} holds an unfinished run; finish it with --resume.")
    if account.recipe.takes_features:
        raise InputError(f"{folder.path} is a run on rows of features: there are no pictures to show neighbours of.")
    n = len(account.rows.names)
    if not 1 <= count < n:
        raise InputError(f"count={count} should be between 1 and {n - 1}, one less than the run's images.")
    if picture not in account.rows.names and not Path(picture).is_file():
        close = get_close_matches(picture, account.rows.names, 3, 0.5)
        near = f" Did you mean {', '.join(close)}?" if close else f" The first of the run is {account.rows.names[0]}."
        raise InputError(f"{picture} is neither among the images of {folder.path} nor a picture on the disk.{near}")
    r, model = runs.load_model(folder, device)
    pixels = images_of(account, data).images
    seen = picture in account.rows.names
    shown = pixels[account.rows.names.index(picture)] if seen else _read(picture, r)
    features = model.transform(pixels)
    if not seen:
        features = torch.cat([features, model.transform(shown.unsqueeze(0))])
    at = account.rows.names.index(picture) if seen else n
    found = each_way(features, r, count)
    cosines = features @ features[at]
    labels = account.rows.labels if seen else torch.cat([account.rows.labels, torch.tensor([-1])])
    own = {way: indices[at, 1:] for way, indices in found.items()}
    return Neighbours(
        picture,
        int(account.rows.assigned.clusters[at] if seen else model.assign(shown.unsqueeze(0)).clusters[0]),
        own,
        {way: cosines.cpu()[indices] for way, indices in own.items()},
        purities(labels, found),
        account.rows,
        shown,
        pixels,
    )


def sheet(found: Neighbours) -> bytes:
    """A PNG: the picture, and its neighbours in a row for each way."""
    from matplotlib.figure import Figure

    chosen = torch.cat([found.images[indices] for indices in found.ways.values()])
    most = max(len(indices) for indices in found.ways.values())
    rows = [[0, *range(1 + row * most, 1 + (row + 1) * most)] for row in range(len(found.ways))]
    canvas = mosaic(torch.cat([found.picture.unsqueeze(0), chosen]), rows, 1 + most)
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(0.8 * (1 + most) + 1.2, 0.8 * len(rows) * (1 + most) * height / width / len(rows) + 0.6), dpi=130)
    axes = figure.subplots()
    axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    gap, side = gap_between(chosen.shape[2]), chosen.shape[2]
    axes.set_yticks([(side + gap) * row + side / 2 for row in range(len(rows))], list(found.ways), fontsize=9)
    axes.set_xticks([side / 2, (side + gap) + side / 2], ["picture", "nearest  →"], fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.axvline(side + gap / 2 - 0.5, color="#888888", linewidth=1)
    axes.set_title(f"{found.name} · cluster {found.cluster}", fontsize=9, color="#555555", loc="left", parse_math=False)
    png = BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight", pad_inches=0.1)
    return png.getvalue()


def _read(picture: str, r: Recipe) -> UInt8[Tensor, "c h w"]:
    pixels = read_picture(Path(picture), r.data.square)
    if isinstance(pixels, str):
        raise InputError(f"{picture} cannot be read: {pixels}.")
    return pixels
