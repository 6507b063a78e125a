"""Signals, observations and what is true, side by side: arrays of any kind as pictures, curves or bars."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dfm_lightning.files import whole_file

# More would be too many to take in.
MOST_PANELS = 12
# More numbers than this are a curve, fewer are bars.
MOST_BARS = 12
# Pixels: the side of a panel, and the margin around what it shows.
_SIDE, _MARGIN = 240, 28
_FONT = ImageFont.load_default(size=12)
# Those of four curves: blue, orange, green, red.
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")

Kind = Literal["picture", "colours", "curves", "bars"]


class Panel(NamedTuple):
    """One array to show: pictures [h w], colours [h w 3] in [0, 1], curves [k n], bars [n]; and its title."""

    title: str
    kind: Kind
    values: np.ndarray


def panel_of(title: str, array: np.ndarray) -> Panel | None:
    """Choose how to show an array: sides of length 1 do not count, and several channels lie one below the other.

    Returns:
        The panel; None where there is nothing to show (no number, or none that is finite).
    """
    values = np.asarray(array, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        return None
    if values.ndim == 3 and values.shape[0] == 3 and min(values.shape[1:]) > 1:
        low, high = values.min(), values.max()
        return Panel(title, "colours", _unit(values, low, high).transpose(1, 2, 0))
    values = values.squeeze()
    if values.ndim < 2:
        return Panel(title, "bars" if values.size <= MOST_BARS else "curves", values.reshape(-1))
    if values.ndim == 2 and len(values) <= 4 < values.shape[1]:
        return Panel(title, "curves", values)
    return Panel(title, "picture", values.reshape(-1, values.shape[-1]))


def write_panels(path: Path, panels: list[Panel]) -> None:
    """Write panels side by side as a PNG file, each with its title, and its least and greatest value."""
    shown = panels[:MOST_PANELS]
    sheet = Image.new("RGB", (_SIDE * len(shown), _SIDE), "white")
    for place, panel in enumerate(shown):
        sheet.paste(draw_panel(panel), (place * _SIDE, 0))
    with whole_file(path) as aside:
        sheet.save(aside, format="PNG")


def draw_panel(panel: Panel) -> Image.Image:
    """Draw a panel, square.

    Drawn without matplotlib, with which panels would take longer than the samples themselves.
    """
    canvas = Image.new("RGB", (_SIDE, _SIDE), "white")
    drawing = ImageDraw.Draw(canvas)
    drawing.text((_MARGIN, _MARGIN / 2), panel.title, "black", _FONT, anchor="lm")
    low, high = float(panel.values.min()), float(panel.values.max())
    if panel.kind in ("picture", "colours"):
        picture = _enlarged(panel.values, low, high)
        canvas.paste(picture, ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2))
        if panel.kind == "picture":
            drawing.text((_SIDE / 2, _SIDE - _MARGIN / 2), f"{low:.3g} … {high:.3g}", "black", _FONT, anchor="mm")
        return canvas
    if panel.kind == "bars":
        low, high = min(low, 0.0), max(high, 0.0)
    for value, place, anchor in ((high, _MARGIN, "rb"), (low, _SIDE - _MARGIN, "rt")):
        drawing.line([(_MARGIN, place), (_SIDE - _MARGIN, place)], "lightgray")
        drawing.text((_SIDE - _MARGIN, place), f"{value:.3g}", "black", _FONT, anchor=anchor)
    if panel.kind == "bars":
        _draw_bars(drawing, _unit(panel.values, low, high), float(_unit(np.zeros(1), low, high)[0]))
    else:
        _draw_curves(drawing, np.atleast_2d(_unit(panel.values, low, high)))
    return canvas


def _unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values from `low` to `high` to [0, 1]; zeros if these are equal."""
    return (values - low) / ((high - low) or 1.0)


def _enlarged(values: np.ndarray, low: float, high: float) -> Image.Image:
    """Return a picture [h w] or colours [h w 3] as large as there is room, each value a rectangle."""
    room = _SIDE - 2 * _MARGIN
    unit = values if values.ndim == 3 else _unit(values, low, high)
    picture = Image.fromarray((unit * 255).round().astype(np.uint8))
    scale = room / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def _height(unit: float) -> float:
    """Return the row of a value in [0, 1]."""
    return _SIDE - _MARGIN - unit * (_SIDE - 2 * _MARGIN)


def _draw_curves(drawing: ImageDraw.ImageDraw, curves: np.ndarray) -> None:
    columns = np.linspace(_MARGIN, _SIDE - _MARGIN, curves.shape[1])
    for number, curve in enumerate(curves):
        rows = [_height(value) for value in curve]
        drawing.line(list(zip(columns, rows, strict=True)), _COLOURS[number % len(_COLOURS)], width=2)


def _draw_bars(drawing: ImageDraw.ImageDraw, bars: np.ndarray, zero: float) -> None:
    width = (_SIDE - 2 * _MARGIN) / bars.size
    for number, value in enumerate(bars):
        left = _MARGIN + number * width
        top, bottom = sorted((_height(value), _height(zero)))
        drawing.rectangle((left + 0.1 * width, top, left + 0.9 * width, bottom), _COLOURS[0])
