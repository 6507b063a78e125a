"""Signals, observations and what is true, side by side: arrays of any kind as pictures, curves or bars."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dfm_lightning.files import whole_file

# A figure that nobody can take in helps nobody.
MOST_PANELS = 12
# More numbers than this are a curve, fewer are bars.
MOST_BARS = 12
_INCHES = 2.2

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
        return Panel(title, "colours", ((values - low) / ((high - low) or 1.0)).transpose(1, 2, 0))
    values = values.squeeze()
    if values.ndim < 2:
        return Panel(title, "bars" if values.size <= MOST_BARS else "curves", values.reshape(-1))
    if values.ndim == 2 and len(values) <= 4 < values.shape[1]:
        return Panel(title, "curves", values)
    return Panel(title, "picture", values.reshape(-1, values.shape[-1]))


def write_panels(path: Path, panels: list[Panel]) -> None:
    """Write panels side by side as a PNG file; pictures have a scale beside them."""
    shown = panels[:MOST_PANELS]
    figure = Figure(figsize=(_INCHES * len(shown), _INCHES))
    for place, panel in enumerate(shown):
        _draw(figure, place / len(shown), 1 / len(shown), panel)
    with whole_file(path) as aside:
        figure.savefig(aside, format="png", dpi=110)


def _draw(figure: Figure, left: float, width: float, panel: Panel) -> None:
    """Draw a panel in its part of the figure's width.

    Places are fixed: computing a layout takes longer than drawing, for each sample anew.
    """
    is_picture = panel.kind in ("picture", "colours")
    span = 0.64 if is_picture else 0.76
    axes = figure.add_axes((left + 0.18 * width, 0.16, span * width, 0.66))
    axes.set_title(panel.title, fontsize=8)
    _label(axes)
    if is_picture:
        image = axes.imshow(panel.values, cmap="gray", interpolation="nearest")
        axes.set_axis_off()
        if panel.kind == "picture":
            scale = figure.add_axes((left + 0.85 * width, 0.24, 0.03 * width, 0.5))
            figure.colorbar(image, cax=scale)
            _label(scale)
    elif panel.kind == "curves":
        axes.plot(np.atleast_2d(panel.values).T, linewidth=1)
    else:
        axes.bar(np.arange(len(panel.values)), panel.values)


def _label(axes: Any) -> None:
    """Label axes in small print, with few numbers."""
    axes.tick_params(labelsize=6)
    axes.locator_params(nbins=4)
