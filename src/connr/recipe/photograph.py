"""The storage format of a photograph from which views are cropped: one row of bytes."""

import math
from typing import NamedTuple

from connr.recipe.square import Square


class Photograph(NamedTuple):
    """A row of bytes: the central square; the whole picture; the original height and width, 4 bytes each.

    The whole picture is resized to short x long pixels whatever its aspect, and an upright one is transposed before, so that
    all rows are of one length. A view's crop is drawn in the original height and width, and read from there.

    Attributes:
        square: the central square, which is evaluated; views have its size.
        short: the shorter side of the stored picture in pixels.
    """

    square: Square
    short: int

    @property
    def long(self) -> int:
        """The longer side: 1.5 times the shorter one, as for most cameras."""
        return round(1.5 * self.short)

    @property
    def whole_shape(self) -> tuple[int, int, int]:
        """The shape (c short long) of the whole picture."""
        return self.square.channels, self.short, self.long

    @property
    def square_bytes(self) -> int:
        """Bytes of the central square, which is first."""
        return math.prod(self.square.shape)

    @property
    def whole_bytes(self) -> int:
        """Bytes of the whole picture, which is second."""
        return math.prod(self.whole_shape)

    @property
    def length(self) -> int:
        """Bytes of a row."""
        return self.square_bytes + self.whole_bytes + 8
