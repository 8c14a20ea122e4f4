"""A preview of training: images at the recipe's size and random views of each phase."""

from dataclasses import replace
from io import BytesIO

import torch

from connr import experiment
from connr.data import ImageSet
from connr.methods import View
from connr.randomness import stream
from connr.recipe import Recipe
from connr.report.sheet import gap_between, mosaic

VIEWS = 4  # of each kind


def view_sheet(images: ImageSet, r: Recipe, count: int) -> bytes:
    """A PNG with a row for each of `count` images, drawn at random: the image, and views of every phase of the method."""
    from matplotlib.figure import Figure

    chosen = torch.randperm(len(images), generator=stream(r.seed, "show"))[:count].sort().values
    pixels = images.images[chosen]
    cut_from = pixels if images.photographs is None else images.photographs[chosen]
    mean, std = images.statistics()
    c, size = pixels.shape[1], (pixels.shape[2], pixels.shape[3])
    columns, generator = [pixels], stream(r.seed, "shown views")
    kinds = kinds_of_views(r)
    for view_kind in kinds.values():
        augment = experiment.images_augmented(r, mean, std, view_kind)
        for _ in range(VIEWS):
            view = augment(cut_from, generator)
            values = view * torch.tensor(std).view(c, 1, 1) + torch.tensor(mean).view(c, 1, 1)
            columns.append((values.clamp(0, 1) * 255).round().to(torch.uint8))
    n, across = len(pixels), len(columns)
    rows = [[column * n + row for column in range(across)] for row in range(n)]
    canvas = mosaic(torch.cat([column.contiguous() for column in columns]), rows, across)
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(9.5, 8.4 * height / width + 0.5), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    gap = gap_between(size[0])
    step = size[0] + gap
    axes.set_yticks([step * row + size[0] / 2 for row in range(n)], [_called(images, int(i)) for i in chosen], fontsize=7)
    heads = [(0.5, "as it is read"), *((1 + VIEWS * (at + 0.5), name) for at, name in enumerate(kinds))]
    axes.set_xticks([step * at - gap / 2 for at, _ in heads], [head for _, head in heads], fontsize=8)
    for at in (1 + VIEWS * kind for kind in range(len(kinds))):
        axes.axvline(step * at - gap / 2 - 0.5, color="#222222", linewidth=1.2)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    png = BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight", pad_inches=0.1)
    return png.getvalue()


def kinds_of_views(r: Recipe) -> dict[str, View]:
    """The distinct random views of a recipe's phases, by name."""
    found: dict[str, View] = {}
    for phase in experiment.phases_of(r):
        for view in phase.views.values():
            if view.kind != "plain" and view not in found.values():
                found[f"{view.kind} views, phase {phase.name}"] = replace(view, of="image")
    return found


LONGEST = 28  # letters of a name


def _called(images: ImageSet, index: int) -> str:
    """The end of an image's name, and its class."""
    from connr.report.reading import shown

    name, label = shown(images.names[index]), int(images.labels[index])
    short = name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
    text = f"{short}\n{images.class_names[label]}" if 0 <= label < len(images.class_names) else short
    return text.replace("$", r"\$")
