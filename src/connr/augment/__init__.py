"""Two views of every image of a batch, each image with random parameters of its own, on the device."""

from connr.augment.socket import Views
from connr.augment.views import LAYOUT, Augment

__all__ = ["LAYOUT", "Augment", "Views"]
