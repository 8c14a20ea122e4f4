"""The side of the square images, in pixels, and how images are brought to it."""


class Side(int):
    """A number of pixels that knows its interpolation, so that whoever passes the one on passes the other on.

    Attributes:
        interpolation: `bilinear` or `bicubic`; that of any other int is `bilinear`.
    """

    interpolation: str

    def __new__(cls, pixels: int, interpolation: str = "bilinear") -> "Side":
        side = super().__new__(cls, pixels)
        side.interpolation = interpolation
        return side

    def __repr__(self) -> str:
        return f"{int(self)}" if self.interpolation == "bilinear" else f"{int(self)} {self.interpolation}"


def interpolation_of(side: int) -> str:
    return side.interpolation if isinstance(side, Side) else "bilinear"
