"""Precomputed features: an `.npz`, `.npy` or Parquet file, or an array, with one row of numbers per item."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from connr.data.image_set import UNLABELLED, ImageSet
from connr.data.npz import plain_array
from connr.errors import InputError

ENDINGS = (".npz", ".npy", ".parquet")


def holds_features(data: Any) -> bool:
    """Whether DATA holds rows of features, not images. Of an `.npz`, only the names of its arrays are read."""
    if isinstance(data, np.ndarray | Tensor):
        return data.ndim == 2
    if not isinstance(data, str | Path) or not Path(data).is_file():
        return False
    if Path(data).suffix.lower() == ".npz":
        try:
            with np.load(data, allow_pickle=False) as arrays:
                return "features" in arrays.files and "images" not in arrays.files
        except Exception:  # opening a broken archive raises the error, with the reason
            return False
    return Path(data).suffix.lower() in ENDINGS


def open_features(data: Any) -> ImageSet:
    """All rows, converted to float32.

    Args:
        data: a 2-D array; an `.npz` with `features` [n,d] and optional `labels` [n], `names` [n], `class_names`; an `.npy`
            [n,d]; a Parquet file with a column `features` of lists and optional `label` and `name`.

    Raises:
        InputError: the file does not exist, or is not a table of finite numbers.
    """
    if isinstance(data, np.ndarray | Tensor):
        return _checked(np.asarray(data), None, None, [], "the array", "")
    path = Path(data)
    if not path.is_file() or path.suffix.lower() not in ENDINGS:
        problem = "is not a file of features" if path.exists() else "does not exist"
        raise InputError(f"{str(data)!r} {problem}: features are an .npz with `features`, an .npy or a .parquet file.")
    arrays = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_numpy(path)
    if "features" not in arrays:
        raise InputError(f"{path} has no `features`; it holds: {', '.join(arrays) or 'nothing'}.")
    labels = arrays.get("labels", arrays.get("label"))
    names = arrays.get("names", arrays.get("name", arrays.get("path")))
    named = arrays.get("class_names", np.array([]))
    if named.ndim != 1:
        raise InputError(f"class_names of {path} have shape {list(named.shape)}, should be one for each label.")
    class_names = [str(name) for name in named]
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        texts = np.array([_as_text(label) for label in labels.ravel()])
        class_names = sorted(set(texts.tolist()) - {""})
        labels = np.array([class_names.index(text) if text else UNLABELLED for text in texts.tolist()], dtype=np.int64)
    return _checked(arrays["features"], labels, names, class_names, str(path), str(path.resolve()))


def _read_numpy(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix == ".npy":
            return {"features": np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))}
        with np.load(path, allow_pickle=False) as arrays:
            return {name: plain_array(arrays, name) for name in arrays.files}
    except Exception as fault:  # a broken file may raise any exception of zipfile, zlib, struct or numpy
        raise InputError(f"{path} cannot be read as plain arrays: {fault}") from fault


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as fault:
        raise InputError('Parquet needs pyarrow: pip install "connr[parquet]".') from fault
    try:
        table = pyarrow.parquet.read_table(path)
        found = {name: _plain(table.column(name)) for name in table.column_names if name != "features"}
        if "features" in table.column_names:
            column = table.column("features").combine_chunks()
            widths = pyarrow.compute.list_value_length(column).unique().to_pylist()
            if len(widths) != 1 or widths[0] is None:
                raise ValueError("the rows of `features` are not all of one length" if len(column) else "it has no rows")
            found["features"] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), widths[0])
        return found
    except Exception as fault:  # pyarrow raises many types
        raise InputError(f"{path} cannot be read as a table with a column `features` of lists of numbers: {fault}") from fault


def _plain(column: Any) -> NDArray[Any]:
    """A column as an array; of objects if values are missing, as numpy would convert integers to floats with NaN."""
    if column.null_count == 0:
        return np.asarray(column.to_numpy())
    return np.array(column.to_pylist(), dtype=object)


def _as_text(label: Any) -> str:
    """A label as text; empty if it is missing."""
    if label is None or label != label:
        return ""
    return str(int(label)) if isinstance(label, float | np.floating) and float(label).is_integer() else str(label)


def _checked(
    features: NDArray[Any],
    labels: NDArray[Any] | None,
    names: NDArray[Any] | None,
    class_names: list[str],
    place: str,
    source: str,
) -> ImageSet:
    kind = features.dtype
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f"features of {place} have shape {list(features.shape)}, should be [n,d], one row per item.")
    if not (np.issubdtype(kind, np.floating) or np.issubdtype(kind, np.integer) or kind == np.bool_):
        raise InputError(f"features of {place} are {kind}, should be real numbers.")
    with np.errstate(over="ignore"):
        rows = np.array(features, dtype=np.float32, order="C")  # a copy, which the caller cannot change
    n = len(rows)
    if bad := np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
        raise InputError(f"features of {place}: {len(bad)} rows are not finite in float32, the first is row {bad[0]}.")
    if labels is not None and labels.shape != (n,):
        raise InputError(f"labels of {place} have shape {list(labels.shape)}, should be [{n}].")
    if labels is not None and class_names and int(labels.max()) >= len(class_names):
        raise InputError(f"class_names of {place} should be one for each label: {class_names[:5]}.")
    if names is not None and (names.shape != (n,) or len(set(names.tolist())) != n):
        raise InputError(f"names of {place} should be [{n}], all different.")
    known = torch.full((n,), UNLABELLED) if labels is None else torch.from_numpy(labels.astype(np.int64))
    called = [str(i) for i in range(n)] if names is None else [str(name) for name in names.tolist()]
    return ImageSet(torch.from_numpy(rows), called, known, class_names, source=source)


def scaling(rows: Float[Tensor, "n d"], by_column: bool) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column.

    Args:
        rows: (n d).
        by_column: one standard deviation for each column, at least 1e-3 of the overall one; otherwise the same for all.

    Returns:
        d means and d standard deviations > 0.
    """
    values = rows.double()
    mean, std = values.mean(dim=0), values.std(dim=0, correction=0)
    whole = std.square().mean().sqrt()
    found = std.clamp(min=float(1e-3 * whole)) if by_column else whole.expand_as(std)
    return mean.tolist(), torch.where(found > 0, found, 1.0).tolist()
