"""Neighbourhoods: features (b d) -> indices (b k) of the images whose other views an image should agree with."""

from connr.neighbours.contextual import contextual
from connr.neighbours.itself import itself
from connr.neighbours.local import local

__all__ = ["contextual", "itself", "local"]
