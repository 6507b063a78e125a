"""Layout of SVG charts: lines over steps, hours or evaluations; shares beside their true distribution."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import LogLocator, MaxNLocator

from dfm_lightning.report.tables import number

# In units of the drawing, which is scaled to a column's width.
WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 8, 34
_ROW, _LABELS = 18, 150
# More points than pixels would show nothing new.
_MOST_POINTS = 300


class Series(NamedTuple):
    """A line: its name, and points (x, y, low, high); the ends of an interval are None if there is none."""

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]


class Share(NamedTuple):
    """The share of samples with one outcome, in one run: its 95% interval, and its probability if known."""

    label: str
    run: str
    share: float
    low: float | None
    high: float | None
    probability: float | None


class Tick(NamedTuple):
    """A mark on an axis."""

    place: float
    label: str


class Line(NamedTuple):
    """A series in the units of the drawing: its path, and its points with intervals if there are few."""

    name: str
    colour: int
    path: str
    points: list[tuple[float, float, float, float]]


class LineChart(NamedTuple):
    """The template's data of a line chart."""

    title: str
    description: str
    x_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]


class Bar(NamedTuple):
    """A share in the units of the drawing."""

    label: str
    colour: int
    top: float
    start: float
    end: float
    low: float | None
    high: float | None
    law: float | None
    meaning: str


class ShareChart(NamedTuple):
    """The template's data of a share chart."""

    title: str
    description: str
    height: float
    ticks: list[Tick]
    bars: list[Bar]
    runs: list[str]


def line_chart(title: str, x_title: str, series: Sequence[Series], logarithmic: bool = False) -> LineChart:
    """Lay out series on common axes, with a logarithmic x axis on request."""
    points = [point for each in series for point in each.points]
    xs = [_x(point[0], logarithmic) for point in points]
    ys = [value for _, y, low, high in points for value in (y, low, high) if value is not None]
    x_low, x_high = _widened(min(xs), max(xs))
    y_low, y_high = _widened(min(ys), max(ys))

    def across(value: float) -> float:
        share = (_x(value, logarithmic) - x_low) / (x_high - x_low)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def up(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM), 1)

    lines = []
    for index, each in enumerate(series):
        chosen = _thinned(each.points)
        path = " ".join(f"{across(x)},{up(y)}" for x, y, _, _ in chosen)
        shown = chosen if len(chosen) <= 30 else []
        spots = [
            (across(x), up(y), up(y if low is None else low), up(y if high is None else high))
            for x, y, low, high in shown
        ]
        lines.append(Line(each.name, index, path, spots))
    ends = [f"{each.name}: {number(each.points[0][1])} to {number(each.points[-1][1])}" for each in series]
    return LineChart(
        title,
        f"{title} over {x_title}. From the first to the last point, {'; '.join(ends)}.",
        x_title,
        [Tick(across(value), number(value)) for value in _ticks(x_low, x_high, logarithmic)],
        [Tick(up(value), number(value)) for value in _ticks(y_low, y_high, False)],
        lines,
    )


def share_chart(title: str, shares: Sequence[Share]) -> ShareChart:
    """Lay out shares as bars from 0 to 1, one below the other, grouped by label."""
    labels = list(dict.fromkeys(share.label for share in shares))
    runs = list(dict.fromkeys(share.run for share in shares))

    def across(value: float) -> float:
        return round(_LABELS + min(max(value, 0.0), 1.0) * (WIDTH - _LABELS - _RIGHT - 4), 1)

    bars, top = [], float(_TOP)
    for label in labels:
        for place, share in enumerate(each for each in shares if each.label == label):
            ends = [None if value is None else across(value) for value in (share.low, share.high)]
            law = None if share.probability is None else across(share.probability)
            bars.append(
                Bar(label if place == 0 else "", runs.index(share.run), top, across(0.0), across(share.share),
                    ends[0], ends[1], law, _in_words(share))
            )  # fmt: skip
            top += _ROW
        top += _ROW / 3
    ticks = [Tick(across(value / 4), number(value / 4)) for value in range(5)]
    return ShareChart(title, f"{title}. {' '.join(bar.meaning for bar in bars)}", top + 22, ticks, bars, runs)


def _in_words(share: Share) -> str:
    interval = "" if share.low is None or share.high is None else f" [{share.low:.3f}, {share.high:.3f}]"
    law = "" if share.probability is None else f", law {share.probability:.3f}"
    return f"{share.label}, {share.run}: {share.share:.3f}{interval}{law}."


def _x(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _thinned(points: Sequence[tuple]) -> Sequence[tuple]:
    every = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:every], points[-1]] if every > 1 else points


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        found = LogLocator(subs=(1.0, 2.0, 5.0), numticks=20).tick_values(10**low, 10**high)
        return [float(value) for value in found if low <= math.log10(value) <= high]
    return [float(v) for v in MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= v <= high]
