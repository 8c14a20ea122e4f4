"""The training input of a run: images, rows of features with their neighbours, or cached features of a frozen backbone."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from connr import experiment, frozen
from connr.data import FileRows, ImageSet, Rows, parts
from connr.data.feature_rows import scaling
from connr.data.image_set import AT_A_TIME
from connr.data.neighbouring import WithNeighbours
from connr.data.rows import size_in_bytes
from connr.engine import Callback
from connr.errors import InputError
from connr.networks import Backbone
from connr.networks.pretrained import Pretrained
from connr.recipe import Recipe


class Inputs(NamedTuple):
    """The training input.

    Attributes:
        images: the rows to train on, with the names and labels of the images.
        normalisation: mean and standard deviation of the rows.
        pixels: mean and standard deviation of the images that a backbone takes.
    """

    images: ImageSet
    normalisation: tuple[list[float], list[float]]
    pixels: tuple[list[float], list[float]]


def build_inputs(
    r: Recipe, images: ImageSet, fingerprint: str, backbone: Backbone | None, device: torch.device, callback: Callback
) -> Inputs:
    """The inputs of a run. Features of a frozen backbone are computed here unless they are cached.

    Args:
        r: the recipe.
        images: as they were opened.
        fingerprint: of `images`.
        backbone: pretrained, if the recipe has one.
        device: where the backbone runs.
        callback: its `on_progress` is called while features are computed.

    Raises:
        InputError: there are fewer rows than neighbours, or the cache cannot be written to.
    """
    if r.takes_features:
        return _with_neighbours(r, images, images.images, images.images[:], ([], []))
    if backbone and backbone.input.mean and backbone.input.std:
        pixels = backbone.input.mean, backbone.input.std
    else:
        pixels = images.statistics()
    stored = {"stored": r.data.stored} if images.photographs is not None else {}
    if images.photographs is not None:  # other processes need only the photographs, which contain `images`
        images = replace(images, images=images.photographs, photographs=None)
    if not (r.frozen and backbone and isinstance(r.backbone, Pretrained)):
        return Inputs(images, pixels, pixels)
    views, seed = r.backbone.views, r.seed
    augment = experiment.images_augmented(r, *pixels)
    name = frozen.key(backbone, fingerprint, {**r.augment.model_dump(), "pixels": pixels, **stored}, views, seed)
    rows = frozen.cached(backbone, images, augment, views, seed, name, device, callback)
    return _with_neighbours(r, images, _resident(rows, r), torch.cat([part[:, 0] for part in parts(rows, AT_A_TIME)]), pixels)


def _with_neighbours(
    r: Recipe, images: ImageSet, rows: Rows, plain: Float[Tensor, "n d"], pixels: tuple[list[float], list[float]]
) -> Inputs:
    mean, std = scaling(plain, by_column=r.feature_views.scale == "columns")
    k = r.feature_views.neighbours
    if k:
        if k >= len(plain):
            raise InputError(f"feature_views.neighbours={k} should be below the number of rows, {len(plain)}.")
        nearest = experiment.neighbours_of(r)((plain.float() - torch.tensor(mean)) / torch.tensor(std))
        rows = WithNeighbours(rows, plain, nearest)
    return Inputs(replace(images, images=rows), (mean, std), pixels)


def _resident(rows: FileRows, r: Recipe) -> Rows:
    """The rows in memory, if they take at most `data.resident_gib`."""
    return rows[:] if size_in_bytes(rows) <= r.data.resident_gib * 2**30 else rows
