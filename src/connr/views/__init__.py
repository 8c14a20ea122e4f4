"""Random views of a batch of images or rows of features, computed on the device with separate parameters for each row."""

from connr.views.augment import LAYOUT, Augment
from connr.views.base import Views
from connr.views.feature_views import FeatureViews

__all__ = ["LAYOUT", "Augment", "FeatureViews", "Views"]
