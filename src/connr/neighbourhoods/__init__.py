"""Socket *neighbourhood*: features (b d) -> indices (b k) of the images whose other views an image should agree with."""

from connr.neighbourhoods.contextual import contextual
from connr.neighbourhoods.itself import itself
from connr.neighbourhoods.local import local

__all__ = ["contextual", "itself", "local"]
