"""A fixed colour for each cluster, one for light ground and one for dark.

Up to 10 clusters: the sequence of Petroff (2021, "Accessible Color Sequences for Data Visualization"), told apart with any
colour vision. More than that no eye tells apart by colour: hues a golden angle from each other, and the numbers beside them.
"""

import colorsys

PETROFF = ("3f90da", "ffa90e", "bd1f01", "94a4a2", "832db6", "a96b59", "e76300", "b9ac70", "717581", "92dadd")
LIGHT_GROUND, DARK_GROUND = (1.0, 1.0, 1.0), (0.09, 0.1, 0.12)
CONTRAST = 2.0  # at least, with the ground
GOLDEN = 0.61803398875

RGB = tuple[float, float, float]


def palette(n_clusters: int) -> list[tuple[str, str]]:
    """`#rrggbb` on light and on dark ground, for clusters 0, 1, ..."""
    if n_clusters <= len(PETROFF):
        base = [_parsed(code) for code in PETROFF[:n_clusters]]
    else:
        base = [colorsys.hls_to_rgb((i * GOLDEN) % 1, (0.42, 0.56, 0.68)[i % 3], 0.6) for i in range(n_clusters)]
    return [(_code(_seen_on(LIGHT_GROUND, c, 0.0)), _code(_seen_on(DARK_GROUND, c, 1.0))) for c in base]


def contrast(one: RGB, other: RGB) -> float:
    """The ratio of luminances of WCAG 2, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _seen_on(ground: RGB, colour: RGB, towards: float) -> RGB:
    """The colour, mixed with black (towards 0) or white (1) as little as its contrast with the ground asks for."""
    for share in range(0, 100, 4):
        mixed = tuple(x + (towards - x) * share / 100 for x in colour)
        if contrast(mixed, ground) >= CONTRAST:  # type: ignore[arg-type]
            break
    return mixed  # type: ignore[return-value]


def _luminance(colour: RGB) -> float:
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parsed(code: str) -> RGB:
    red, green, blue = (int(code[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


def _code(colour: RGB) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in colour)
