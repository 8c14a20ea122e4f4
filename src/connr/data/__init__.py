"""Pictures from anywhere -> one `ImageSet`: uint8 images of one size, their names, their labels if any."""

from connr.data.batches import batches
from connr.data.image_set import ImageSet, Skipped
from connr.data.sources import open_images

__all__ = ["ImageSet", "Skipped", "batches", "open_images"]
