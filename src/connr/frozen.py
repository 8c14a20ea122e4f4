"""Cached features of a frozen backbone for every image and V random views, in a file in half precision.

The file is found again by the images, the backbone's weights, the augmentation and the seed, whatever the rest of the recipe.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor, nn

from connr import stops
from connr.data import FileRows, ImageSet
from connr.engine import Callback, checkpoint
from connr.errors import Diverged, InputError, Stopped
from connr.model import PRETRAINED_AT_A_TIME as AT_A_TIME
from connr.networks import Backbone
from connr.randomness import stream
from connr.run_folder import flush_folder, write_text
from connr.views import LAYOUT, Views

FORMAT = "connr-views-1"
SAVED_EVERY = 2.0  # between two updates of the notes


def place() -> Path:
    """The cache folder, which may be removed at any time: $CONNR_CACHE, or ~/.cache/connr."""
    given = os.environ.get("CONNR_CACHE")
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "connr"
    except RuntimeError as fault:
        raise InputError("this user has no home folder for cached features; set CONNR_CACHE to a folder.") from fault


def key(backbone: Backbone, fingerprint: str, augmentation: dict[str, Any], views: int, seed: int) -> str:
    """The cache key: a hash of the images, weights, augmentation, number of views and seed."""
    parts = [FORMAT, fingerprint, checkpoint.digest(checkpoint.on_cpu(backbone.network.state_dict()))]
    parts += [json.dumps([backbone.backbone_config, augmentation, views, seed], sort_keys=True, default=str)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()


def cached(
    backbone: Backbone,
    images: ImageSet,
    augment: Views,
    views: int,
    seed: int,
    name: str,
    device: torch.device,
    callback: Callback,
) -> FileRows:
    """The features (n 1+V f) in half precision, of the image without augmentation first; cached.

    An interrupted computation resumes at its last row. A second process with the same key waits for the first.

    Args:
        augment: what makes a view of an image, and the plain image as the backbone takes it.
        name: from `key`.
        callback: its `on_progress` is called with the images done and all images.

    Raises:
        InputError: the cache cannot be written to.
        Diverged: a feature is not finite in half precision.
        Stopped: a signal came; what is done is kept.
    """
    folder, n = place(), len(images)
    path, part, notes = folder / f"{name}.features", folder / f"{name}.part", folder / f"{name}.json"
    network = backbone.network.to(memory_format=LAYOUT).to(device).eval()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        with stops.listening() as request:
            while True:
                try:
                    lock.acquire(timeout=0.5)
                    break
                except Timeout:
                    callback.on_progress(0, n, "another process computes these features: waiting for it")
                    _heed(request)
            try:
                first = _features(network, augment, images.images[:1].to(device), views, stream(seed, "cached views"))
                shape = torch.Size((n, *first.shape[1:]))
                if not (path.is_file() and path.stat().st_size == shape.numel() * 2):
                    _compute(network, images, augment, views, seed, shape, (path, part, notes), device, callback, request)
                return FileRows(path, shape, torch.float16)
            finally:
                lock.release()
    except OSError as fault:
        raise InputError(
            f"{fault.filename or folder} cannot be written: {fault.strerror or fault}; set CONNR_CACHE to another folder."
        ) from fault


def _compute(
    network: nn.Module,
    images: ImageSet,
    augment: Views,
    views: int,
    seed: int,
    shape: torch.Size,
    files: tuple[Path, Path, Path],
    device: torch.device,
    callback: Callback,
    request: stops.StopRequest,
) -> None:
    """Writes rows to the part file, which is renamed when complete; the notes count the rows on the disk."""
    (path, part, notes), n, a_row = files, shape[0], shape[1:].numel() * 2
    done = min(_noted(notes), part.stat().st_size // a_row if part.is_file() else 0) // AT_A_TIME * AT_A_TIME
    with open(part, "r+b" if part.is_file() else "wb") as file:
        file.truncate(done * a_row)
        file.seek(done * a_row)
        saved = time.monotonic()
        for at in range(done, n, AT_A_TIME):
            _heed(request)
            callback.on_progress(at, n, "")
            pixels = images.images[at : min(at + AT_A_TIME, n)].to(device)
            found = _features(network, augment, pixels, views, stream(seed, "cached views", at))
            if not bool(found.isfinite().all()):
                raise Diverged(
                    f"the backbone gives features for images {at} to {at + len(pixels) - 1} that half precision cannot hold."
                )
            file.write(found.cpu().contiguous().numpy().data)
            if time.monotonic() - saved > SAVED_EVERY:
                _save(file, notes, at + len(pixels))
                saved = time.monotonic()
        _save(file, notes, n)
    part.replace(path)
    notes.unlink(missing_ok=True)
    flush_folder(path.parent)
    callback.on_progress(n, n, "")


def _features(
    network: nn.Module, augment: Views, pixels: Tensor, views: int, generator: torch.Generator
) -> Float[Tensor, "b m f"]:
    with torch.no_grad():
        plain = network(augment.normalise(pixels))
        return torch.stack([plain, *(network(augment(pixels, generator)) for _ in range(views))], dim=1).half()


def _save(file: BinaryIO, notes: Path, done: int) -> None:
    file.flush()
    os.fsync(file.fileno())
    write_text(notes, json.dumps({"done": done}))


def _noted(notes: Path) -> int:
    try:
        return int(json.loads(notes.read_text())["done"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def _heed(request: stops.StopRequest) -> None:
    if request.signal:
        raise Stopped(request.signal)
