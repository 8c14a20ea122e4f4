"""Curves over the epochs as points of an SVG, for the template."""

import math
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

WIDTH, HEIGHT = 360, 204  # SVG units, about pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 22, 26  # of the frame
MARKED_TO = 30  # values of a line; longer lines have no dots
MOST_STEPS = 5  # between the ticks of an axis

Value = Callable[[dict[str, Any]], float | None]


class Line(NamedTuple):
    """A curve: its name, its first and last value as text, its style (a class of the style sheet) and its points."""

    name: str
    first: str
    last: str
    style: str
    points: list[tuple[float, float]]
    marked: bool


class Tick(NamedTuple):
    """A tick of an axis: position and text."""

    at: float
    text: str


class Chart(NamedTuple):
    """A frame with its curves; `phases` are the phases after the first one, by name, where they begin."""

    title: str
    note: str
    lines: list[Line]
    across: list[Tick]
    up: list[Tick]
    phases: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


class Query(NamedTuple):
    """The specification of a chart: lines by name, minimal range of the axis, digits of the values."""

    title: str
    note: str
    values: dict[str, Value]
    covers: tuple[float, ...]
    digits: int


def charts(records: list[dict[str, Any]], epochs: int) -> list[Chart]:
    """A chart for each metric that at least one epoch has."""
    asked = (
        Query("Loss", "Mean over the steps of an epoch.", {"loss": _key("loss")}, (), 3),
        Query(
            "Scores",
            "Against the labels, which training never sees.",
            {name.upper(): _key(name) for name in ("acc", "nmi", "ari")},
            (0.0, 1.0),
            3,
        ),
        # By rank: k-means renumbers clusters in every epoch.
        Query(
            "Cluster sizes",
            "Images in the largest, the median and the smallest cluster.",
            {"largest": _sizes(max), "median": _sizes(statistics.median), "smallest": _sizes(min)},
            (0.0,),
            0,
        ),
        Query(
            "Spread of the features",
            "About 1 when they spread over the sphere, 0 when they have collapsed.",
            {"feature std": _key("feature_std")},
            (0.0, 1.0),
            3,
        ),
        Query(
            "Anchors kept",
            "Share of a batch far enough from a boundary to be drawn to its neighbours.",
            {"kept": _key("kept")},
            (0.0, 1.0),
            3,
        ),
    )
    begins = [
        (int(record["epoch"]), str(record["stage"]))
        for before, record in pairwise(records)
        if record["stage"] != before["stage"]
    ]
    drawn = [_chart(chart, records, epochs, begins) for chart in asked]
    return [chart for chart in drawn if chart]


def _chart(asked: Query, records: list[dict[str, Any]], epochs: int, begins: list[tuple[int, str]]) -> Chart | None:
    found = {name: _series(records, value) for name, value in asked.values.items()}
    values = [value for series in found.values() for _, value in series] + list(asked.covers)
    if not any(found.values()):
        return None
    marks = ticks(min(values), max(values))

    def x(epoch: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, epochs - 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - marks[0]) / (marks[-1] - marks[0]), 1)

    lines = [
        Line(
            name,
            text(series[0][1], asked.digits),
            text(series[-1][1], asked.digits),
            f"s{style}",
            [(x(epoch), y(value)) for epoch, value in series],
            len(series) <= MARKED_TO,
        )
        for style, (name, series) in enumerate(found.items())
        if series
    ]
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    across = [Tick(x(at), f"{at:,}") for at in epoch_ticks(epochs)]
    phases = [Tick(x(first - 0.5), name) for first, name in begins]
    return Chart(asked.title, asked.note, lines, across, [Tick(y(mark), text(mark, digits)) for mark in marks], phases)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers in equal steps, `MOST_STEPS` at most; the first is at most `low`, the last at least `high`."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / MOST_STEPS))
    for by in (1, 2, 5, 10, 20):
        step = power * by
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= MOST_STEPS:
            break
    return [step * at for at in range(first, last + 1)]


def epoch_ticks(epochs: int) -> list[int]:
    """The first and the last epoch, and round ones between them at some distance."""
    step = max(1, int(ticks(0, epochs)[1]))
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


def _sizes(statistic: Callable[[list[int]], float]) -> Value:
    return lambda record: statistic(record["cluster_sizes"]) if record.get("cluster_sizes") else None
