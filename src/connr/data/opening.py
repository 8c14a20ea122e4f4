"""Opens DATA for a recipe: images at its size, or rows of features."""

from pathlib import Path
from typing import Any

from connr.data.feature_rows import holds_features, open_features
from connr.data.image_set import ImageSet
from connr.data.sources import open_images
from connr.data.storage import StoragePolicy
from connr.errors import InputError
from connr.recipe import Recipe


def open_for(
    r: Recipe,
    data: Any,
    *,
    labels_from_folders: bool = False,
    leave_out: Path | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    for_views: bool = True,
) -> ImageSet:
    """Calls `open_images` or `open_features`, depending on the recipe.

    Args:
        r: the recipe.
        data: see `open_images` and `open_features`.
        labels_from_folders: see `open_images`.
        leave_out: see `open_images`.
        threads: see `open_images`.
        cache: a folder for images that exceed the memory limit of the recipe.
        for_views: keep whole pictures if the recipe crops its views from them; otherwise only the squares.

    Raises:
        InputError: see `open_images` and `open_features`; or the data is of the wrong kind, or its rows of the wrong width.
    """
    if not r.takes_features:
        if holds_features(data):
            what = data if isinstance(data, str | Path) else "the array"
            raise InputError(f"{what} holds rows of features, but images are expected; use the recipe features for such rows.")
        storage = StoragePolicy(r.data.resident_gib, cache)
        return open_images(
            data,
            *r.data.square,
            labels_from_folders=labels_from_folders,
            leave_out=leave_out,
            threads=threads,
            storage=storage,
            unreadable_at_most=r.data.unreadable_at_most,
            kept=r.data.photograph if for_views else None,
        )
    if labels_from_folders:
        raise InputError("labels cannot be read from folders for features; give them as an array `labels`.")
    found = open_features(data)
    width = found.images.shape[1]
    if r.data.features not in (None, width):
        raise InputError(f"the rows of features have {width} columns, but the model was fitted on {r.data.features}.")
    return found
