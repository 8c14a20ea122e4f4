"""CIFAR-10 and CIFAR-100 in their original format, Python pickles, read without executing code.

torchvision uses `pickle.load`, which can call any function. Here a pickle can only create arrays.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connr.data.named import BrokenDataset

FILES = {
    "cifar10": ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], "batches.meta"),
    "cifar20": ("cifar-100-python", ["train", "test"], "meta"),
}
KEYS = {"cifar10": ("labels", "label_names"), "cifar20": ("coarse_labels", "coarse_label_names")}
SIDE = 32


class _Arrays(pickle.Unpickler):
    """An unpickler that allows only the names that arrays need; Python 3 needs `_codecs.encode` for protocol 2."""

    def find_class(self, module: str, name: str) -> Any:
        make = np.empty(0, dtype=np.uint8).__reduce__()[0]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): make,
            ("numpy._core.multiarray", "_reconstruct"): make,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in allowed:
            raise BrokenDataset(f"uses {module}.{name}, which no array needs")
        return allowed[module, name]


def _are_classes(labels: list[Any]) -> bool:
    """Whether all labels are integers (of Python or numpy) in [0, 10**6)."""
    return all(isinstance(label, int | np.integer) and 0 <= label < 10**6 for label in labels)


def _latin1(text: str, _encoding: str) -> bytes:
    return text.encode("latin1")


def read(name: str, root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Images [n,32,32,3], labels [n] and class names; the training images are first.

    Raises:
        BrokenDataset: a file is missing or differs from the original format.
    """
    folder, files, meta = FILES[name]
    label_key, names_key = KEYS[name]
    images, labels = list[NDArray[np.uint8]](), list[int]()
    for file in files:
        batch = _load(root / folder / file)
        pixels, found = batch.get("data"), batch.get(label_key)
        array = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (3 * SIDE * SIDE,)
        if pixels is None or not array or not isinstance(found, list) or len(found) != len(pixels) or not _are_classes(found):
            raise BrokenDataset(f"{folder}/{file} holds no images with {label_key}")
        images.append(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        labels += [int(label) for label in found]
    names = _load(root / folder / meta).get(names_key)
    if not isinstance(names, list) or not 0 <= min(labels) <= max(labels) < len(names):
        raise BrokenDataset(f"{folder}/{meta} has no name for every label")
    return np.concatenate(images), np.array(labels, dtype=np.int64), [str(each) for each in names]


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = _Arrays(file, encoding="latin1").load()
    except FileNotFoundError as fault:
        raise BrokenDataset(f"{path.parent.name}/{path.name} is missing") from fault
    except BrokenDataset as fault:
        raise BrokenDataset(f"{path.parent.name}/{path.name} {fault}") from fault
    except Exception as fault:  # a broken pickle may raise any exception
        raise BrokenDataset(f"{path.parent.name}/{path.name} cannot be read: {fault!r}") from fault
    if not isinstance(content, dict):
        raise BrokenDataset(f"{path.parent.name}/{path.name} is not a dictionary")
    return content
