"""What a run trains on: its images, rows of features with their neighbours, or what a frozen backbone gave for the images."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from connr import experiment, frozen
from connr.networks import Backbone
from connr.data import ImageSet, Rows, FileRows, parts
from connr.data.feature_rows import scaling
from connr.data.image_set import AT_A_TIME
from connr.data.neighbouring import WithNeighbours
from connr.data.rows import size_in_bytes
from connr.errors import InputError
from connr.recipe import Pretrained, Recipe
from connr.engine import Callback


class Inputs(NamedTuple):
    """The rows that training is given, with the images' labels; how they are normalised; how the backbone's images are."""

    images: ImageSet
    normalisation: tuple[list[float], list[float]]
    pixels: tuple[list[float], list[float]]


def inputs_of(
    r: Recipe, images: ImageSet, fingerprint: str, backbone: Backbone | None, device: torch.device, told: Callback
) -> Inputs:
    """The inputs of a run; those of a frozen backbone are computed here, if no run before has done it.

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
    if images.photographs is not None:  # and no second time beside them, where other processes are given all of it
        images = replace(images, images=images.photographs, photographs=None)
    if not (r.frozen and backbone and isinstance(r.backbone, Pretrained)):
        return Inputs(images, pixels, pixels)
    views, seed = r.backbone.views, r.seed
    augment = experiment.images_augmented(r, *pixels)
    name = frozen.key(backbone, fingerprint, {**r.augment.model_dump(), "pixels": pixels, **stored}, views, seed)
    rows = frozen.cached(backbone, images, augment, views, seed, name, device, told)
    return _with_neighbours(r, images, _near(rows, r), torch.cat([part[:, 0] for part in parts(rows, AT_A_TIME)]), pixels)


def _with_neighbours(
    r: Recipe, images: ImageSet, rows: Rows, plain: Float[Tensor, "n d"], pixels: tuple[list[float], list[float]]
) -> Inputs:
    mean, std = scaling(plain, by_column=r.feature_views.scale == "columns")
    k = r.feature_views.neighbours
    if k:
        if k >= len(plain):
            raise InputError(f"feature_views.neighbours={k} should be below the number of rows, {len(plain)}.")
        near = experiment.neighbours_of(r)((plain.float() - torch.tensor(mean)) / torch.tensor(std))
        rows = WithNeighbours(rows, plain, near)
    return Inputs(replace(images, images=rows), (mean, std), pixels)


def _near(rows: FileRows, r: Recipe) -> Rows:
    """In memory, where the recipe has room for them there."""
    return rows[:] if size_in_bytes(rows) <= r.data.resident_gib * 2**30 else rows
