"""The size and channels to which images are converted."""

from typing import NamedTuple


class Square(NamedTuple):
    """The central square of a picture, size x size pixels.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        interpolation: that leads to the size, with antialiasing: `bilinear` or `bicubic`.
    """

    size: int
    channels: int
    interpolation: str = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (c s s) of an image."""
        return self.channels, self.size, self.size
