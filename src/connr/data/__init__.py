"""Pictures from anywhere -> one `ImageSet`: uint8 images of one size, their names, their labels if any."""

from connr.data.batches import batches, fetched
from connr.data.features import holds_features
from connr.data.image_set import ImageSet, Skipped
from connr.data.opening import open_for
from connr.data.room import Room
from connr.data.rows import Rows, Stored, parts, resident
from connr.data.sources import open_images

__all__ = [
    "ImageSet",
    "Room",
    "Rows",
    "Skipped",
    "Stored",
    "batches",
    "fetched",
    "holds_features",
    "open_for",
    "open_images",
    "parts",
    "resident",
]
