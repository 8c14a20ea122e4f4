"""Data sources: every one is read into an `ImageSet`, uint8 images of one size with names and optional labels."""

from connr.data.batches import batches, fetched
from connr.data.feature_rows import holds_features
from connr.data.image_set import ImageSet, Skipped
from connr.data.opening import open_for
from connr.data.rows import FileRows, Rows, parts, resident
from connr.data.sources import open_images
from connr.data.storage import StoragePolicy

__all__ = [
    "FileRows",
    "ImageSet",
    "Rows",
    "Skipped",
    "StoragePolicy",
    "batches",
    "fetched",
    "holds_features",
    "open_for",
    "open_images",
    "parts",
    "resident",
]
