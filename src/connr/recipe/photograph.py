"""How a photograph that views are cut from is stored: as one row of bytes, which all layers above agree on."""

import math
from typing import NamedTuple

from connr.recipe.square import Square


class Photograph(NamedTuple):
    """A row of bytes: the central square, as it is evaluated; the whole picture; its height and width, 4 bytes each.

    The whole picture is resized to short x long pixels whatever its aspect, and an upright one is transposed before, so that
    all rows are of one length. A view's crop is drawn in the original height and width, and read from there.

    Attributes:
        square: what is evaluated, and the size of the views.
        short: the shorter side of the stored picture in pixels.
    """

    square: Square
    short: int

    @property
    def long(self) -> int:
        """The longer side: one and a half times the other, as of most cameras."""
        return round(1.5 * self.short)

    @property
    def whole_shape(self) -> tuple[int, int, int]:
        """(c short long), of the whole picture."""
        return self.square.channels, self.short, self.long

    @property
    def square_bytes(self) -> int:
        """Of the central square, which come first."""
        return math.prod(self.square.shape)

    @property
    def whole_bytes(self) -> int:
        """Of the whole picture, which come second."""
        return math.prod(self.whole_shape)

    @property
    def length(self) -> int:
        """Bytes of a row."""
        return self.square_bytes + self.whole_bytes + 8
