"""Curves over the epochs as the points of an SVG: what the template draws, it does not compute."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

WIDTH, HEIGHT = 360, 200  # units of the drawing, about pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 16, 26  # of the frame
MARKED_TO = 30  # values; a longer line needs no dots

Value = Callable[[dict[str, Any]], Any]


class Line(NamedTuple):
    """A curve: its name, its first and last value as text, its style (a class of the style sheet) and its points."""

    name: str
    first: str
    last: str
    style: str
    points: list[tuple[float, float]]
    marked: bool


class Tick(NamedTuple):
    """A mark of an axis, where it is and what it says."""

    at: float
    text: str


class Chart(NamedTuple):
    """A frame with its curves; `stage` is where stage 2 begins, None where it does not."""

    title: str
    note: str
    lines: list[Line]
    across: list[Tick]
    up: list[Tick]
    stage: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def charts(records: list[dict[str, Any]], epochs: int, n_clusters: int) -> list[Chart]:
    """A chart for each number that the epochs have; those no epoch has are left out."""
    sizes = [(f"cluster {c}", f"c{c}", _size(c)) for c in range(n_clusters)]
    asked: list[tuple[str, str, list[tuple[str, str, Value]], tuple[float, float] | None]] = [
        ("Loss", "Mean over the steps of an epoch.", [("loss", "s0", _key("loss"))], None),
        (
            "Scores",
            "Against the labels, which training never sees.",
            [(name.upper(), f"s{at}", _key(name)) for at, name in enumerate(("acc", "nmi", "ari"))],
            (0.0, 1.0),
        ),
        ("Cluster sizes", "Images in each cluster; a line that falls to 0 is a cluster lost.", sizes, (0.0, 0.0)),
        (
            "Spread of the features",
            "About 1 when they spread over the sphere, 0 when they have collapsed.",
            [("feature std", "s0", _key("feature_std"))],
            (0.0, 1.0),
        ),
        (
            "Anchors kept",
            "Share of a batch far enough from a boundary to draw its neighbours.",
            [("kept", "s0", _key("kept"))],
            (0.0, 1.0),
        ),
    ]
    begins = next((record["epoch"] for record in records if record["stage"] == "group"), None)
    drawn = [_chart(title, note, lines, covered, records, epochs, begins) for title, note, lines, covered in asked]
    return [chart for chart in drawn if chart]


def _chart(
    title: str,
    note: str,
    lines: list[tuple[str, str, Value]],
    covered: tuple[float, float] | None,
    records: list[dict[str, Any]],
    epochs: int,
    begins: int | None,
) -> Chart | None:
    """The chart of some values; `covered` is the range that the axis has at least."""
    found = {name: _series(records, value) for name, _, value in lines}
    values = [value for series in found.values() for _, value in series] + list(covered or ())
    if not any(found.values()):
        return None
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]

    def x(epoch: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, epochs - 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    return Chart(
        title,
        note,
        [
            Line(
                name,
                text(series[0][1], digits + 1),
                text(series[-1][1], digits + 1),
                style,
                [(x(epoch), y(value)) for epoch, value in series],
                len(series) <= MARKED_TO,
            )
            for (name, style, _), series in zip(lines, found.values(), strict=True)
            if series
        ],
        [Tick(x(at), f"{at:,.0f}") for at in epoch_ticks(epochs)],
        [Tick(y(mark), text(mark, digits)) for mark in marks],
        x(begins - 0.5) if begins and begins > 1 else None,
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """2 to `most` + 1 round numbers, in equal steps, of which the first is at most `low` and the last at least `high`."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * by for by in (1, 2, 5, 10, 20) if math.ceil(high / (power * by)) - math.floor(low / (power * by)) <= most)
    return [step * at for at in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def epoch_ticks(epochs: int) -> Iterable[int]:
    """The first and the last epoch, and round ones between that are not too near to them."""
    step = max(1, int(ticks(0, epochs, 4)[1]))
    between = [at for at in range(step, epochs, step) if at > 1 + step / 3 and epochs - at > step / 2]
    return sorted({1, *between, epochs})


def text(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "−")


def _series(records: list[dict[str, Any]], value: Value) -> list[tuple[int, float]]:
    """(epoch, value) of the epochs that have a finite one."""
    pairs = [(int(record["epoch"]), value(record)) for record in records]
    return [(epoch, float(x)) for epoch, x in pairs if x is not None and math.isfinite(x)]


def _key(name: str) -> Value:
    return lambda record: record.get(name)


def _size(cluster: int) -> Value:
    def size(record: dict[str, Any]) -> int | None:
        sizes = record.get("cluster_sizes")
        return sizes[cluster] if sizes else None

    return size
