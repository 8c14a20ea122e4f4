"""A fixed colour for each cluster, for a light and a dark background.

Up to 10 clusters: the sequence of Petroff (2021, "Accessible Color Sequences for Data Visualization"), distinct for any
colour vision. More clusters cannot be distinguished by colour alone: hues at steps of the golden angle, plus numbers.
"""

import colorsys
from typing import NamedTuple

PETROFF = ("3f90da", "ffa90e", "bd1f01", "94a4a2", "832db6", "a96b59", "e76300", "b9ac70", "717581", "92dadd")
GOLDEN = 0.61803398875

RGB = tuple[float, float, float]


class Background(NamedTuple):
    """A background colour, the ink mixed into dots for contrast, and the minimal contrast."""

    colour: RGB
    ink: RGB
    contrast: float


LIGHT = Background((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 2.0)
DARK = Background((0.09, 0.1, 0.12), (1.0, 1.0, 1.0), 3.0)


def palette(n_clusters: int) -> list[tuple[str, str]]:
    """`#rrggbb` for light and dark background, for clusters 0, 1, ..."""
    if n_clusters <= len(PETROFF):
        base = [_parsed(code) for code in PETROFF[:n_clusters]]
    else:
        base = [colorsys.hls_to_rgb((i * GOLDEN) % 1, (0.42, 0.56, 0.68)[i % 3], 0.6) for i in range(n_clusters)]
    return [(_code(_seen_on(LIGHT, colour)), _code(_seen_on(DARK, colour))) for colour in base]


def contrast(one: RGB, other: RGB) -> float:
    """The ratio of luminances of WCAG 2, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _seen_on(ground: Background, colour: RGB) -> RGB:
    """The colour, mixed with as little ink as the contrast needs."""
    for share in range(0, 100, 4):
        if contrast(mixed := _mixed(colour, ground.ink, share / 100), ground.colour) >= ground.contrast:
            break
    return mixed


def _mixed(one: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def _luminance(colour: RGB) -> float:
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parsed(code: str) -> RGB:
    red, green, blue = (int(code[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


def _code(colour: RGB) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in colour)
