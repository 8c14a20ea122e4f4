"""DATA as a recipe takes it: images at its size, or rows of features."""

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
    """As `open_images` or `open_features`, whichever the recipe is for.

    Args:
        cache: the folder of images that need more memory than the recipe gives them.
        for_views: whole pictures are kept where the recipe cuts its views from them; otherwise only what is evaluated.

    Raises:
        InputError: as those; or the data is of the other kind, or its rows are not as wide as those of the fit.
    """
    if not r.takes_features:
        if holds_features(data):
            what = data if isinstance(data, str | Path) else "the array"
            raise InputError(f"{what} holds rows of features, and this takes images; the recipe features clusters such rows.")
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
        raise InputError("features are in no folders to take labels from; give them as an array `labels`.")
    found = open_features(data)
    width = found.images.shape[1]
    if r.data.features not in (None, width):
        raise InputError(f"the rows of features are {width} wide, and were {r.data.features} wide when this was fitted.")
    return found
