"""Extracts features of pictures with a pretrained backbone into a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from connr import experiment, pretrained, recipe
from connr.data import ImageSet, Skipped, open_for, parts
from connr.errors import InputError
from connr.model import PRETRAINED_AT_A_TIME
from connr.recipe import Recipe
from connr.run_folder import check_writable, replacing
from connr.schema import write_skipped
from connr.views import LAYOUT, Augment

ENDINGS = (".npz", ".npy", ".parquet")


def check_out(out: Path, overwrite: bool) -> None:
    """Checks before any work that a file can be written.

    Raises:
        InputError: its ending is not known, it is there, there is no folder for it, or it cannot be written; or pyarrow is
            missing.
    """
    if out.suffix not in ENDINGS:
        raise InputError(f"--out {out} should end in {', '.join(ENDINGS)}.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; add --overwrite, or choose another --out.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}.")
    if out.suffix == ".parquet":
        _arrow()
    check_writable(out)


def recipe_for(model: str, settings: list[str]) -> Recipe:
    """A recipe with the input format of the backbone."""
    return pretrained.resolve_input(recipe.load("pretrained", [f"backbone.model={model}", *settings], clusters=2))


def embed(
    r: Recipe,
    data: str,
    out: Path,
    *,
    labels_from_folders: bool = False,
    device: str = "auto",
    advance: Callable[[int, int], object],
) -> tuple[int, int, list[Skipped]]:
    """Writes names, features (n f) in single precision, and labels if any; an .npy holds only the features.

    Args:
        r: from `recipe_for`.
        advance: called with the images done and all images.

    Returns:
        n, f and the files that could not be read, which are listed next to `out`.

    Raises:
        InputError: there is no such DATA or backbone.
    """
    backbone = pretrained.backbone_of(r)
    assert backbone is not None  # the recipe is that of a pretrained one
    images = open_for(r, data, labels_from_folders=labels_from_folders, for_views=False)
    there = experiment.fabric_for(r, device).device
    mean, std = backbone.input.mean, backbone.input.std
    normalise = Augment(*(images.statistics() if mean is None or std is None else (mean, std))).normalise
    network, found = backbone.network.to(memory_format=LAYOUT).to(there).eval(), list[torch.Tensor]()
    with torch.no_grad():
        for part in parts(images.images, PRETRAINED_AT_A_TIME):
            found.append(network(normalise(part.to(there))).float().cpu())
            advance(sum(map(len, found)), len(images))
    features = torch.cat(found).numpy()
    _write(out, features, images)
    if images.skipped:
        write_skipped(out.with_name(f"{out.stem}.skipped.csv"), images.skipped)
    return len(features), features.shape[1], images.skipped


def _write(out: Path, features: NDArray[np.float32], images: ImageSet) -> None:
    readable = [name.encode(errors="surrogateescape").decode(errors="backslashreplace") for name in images.names]
    with replacing(out) as draft:
        if out.suffix == ".parquet":
            arrow, parquet = _arrow()
            columns = {"name": readable, "features": arrow.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])}
            if images.labelled:
                columns["label"] = _labels(images)
            parquet.write_table(arrow.table(columns), draft)
            return
        with open(draft, "wb") as file:
            if out.suffix == ".npy":
                np.save(file, features)
                return
            labels = {"labels": images.labels.numpy()} if images.labelled else {}
            names = {"class_names": np.array(images.class_names)} if images.class_names else {}
            np.savez(file, features=features, names=np.array(readable), **labels, **names)  # type: ignore[arg-type]


def _labels(images: ImageSet) -> list[str | None]:
    names = images.class_names
    return [None if i < 0 else names[i] if i < len(names) else str(i) for i in images.labels.tolist()]


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as fault:
        raise InputError('Parquet needs pyarrow: pip install "connr[parquet]".') from fault
    return pyarrow, pyarrow.parquet
