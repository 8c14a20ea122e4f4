"""Two views of every row of a batch, each with random parameters of its own, on the device: of images, or of features."""

from connr.views.augment import LAYOUT, Augment
from connr.views.base import Views
from connr.views.feature_views import FeatureViews

__all__ = ["LAYOUT", "Augment", "FeatureViews", "Views"]
