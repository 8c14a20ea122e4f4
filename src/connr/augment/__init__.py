"""Two views of every row of a batch, each with random parameters of its own, on the device: of images, or of features."""

from connr.augment.feature_views import FeatureViews
from connr.augment.socket import Views
from connr.augment.views import LAYOUT, Augment

__all__ = ["LAYOUT", "Augment", "FeatureViews", "Views"]
