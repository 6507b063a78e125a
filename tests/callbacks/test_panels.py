"""Panels: how arrays of any kind are shown side by side."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfm_lightning.callbacks.output.panels import MOST_PANELS, Kind, Panel, draw_panel, panel_of, write_panels

DRAWN = np.random.RandomState(0).standard_normal


@pytest.mark.parametrize(
    ("shape", "kind", "shown"),
    [
        ((1, 16, 16), "picture", (16, 16)),
        ((3, 16, 16), "colours", (16, 16, 3)),
        ((2, 16, 16), "picture", (32, 16)),
        ((1, 1, 32), "curves", (32,)),
        ((2, 1, 32), "curves", (2, 32)),
        ((1, 24, 32), "picture", (24, 32)),
        ((3,), "bars", (3,)),
        ((), "bars", (1,)),
        ((5, 1, 1), "bars", (5,)),
    ],
)
def test_arrays_are_shown_by_their_shape(shape: tuple[int, ...], kind: str, shown: tuple[int, ...]) -> None:
    panel = panel_of("x", np.asarray(DRAWN(shape)))
    assert panel is not None
    assert (panel.kind, panel.values.shape) == (kind, shown)


def test_colours_are_scaled_and_what_cannot_be_shown_is_left_out() -> None:
    panel = panel_of("x", DRAWN((3, 4, 4)) * 7)
    assert panel is not None
    assert (panel.values.min(), panel.values.max()) == (0, 1)
    assert panel_of("none", np.zeros((0, 3))) is None
    assert panel_of("nan", np.array([np.nan, 1.0])) is None


def test_panels_are_side_by_side_and_pictures_keep_light_and_dark(tmp_path: Path) -> None:
    halves = np.zeros((8, 8))
    halves[:, 4:] = 5
    write_panels(tmp_path / "one.png", [Panel("halves", "picture", halves)])
    one = np.asarray(Image.open(tmp_path / "one.png").convert("L")).astype(float)
    row = one[one.shape[0] // 2]
    assert row.min() < 5
    assert np.argmin(row) < one.shape[1] / 2
    write_panels(tmp_path / "many.png", [Panel(str(n), "bars", np.ones(2)) for n in range(MOST_PANELS + 3)])
    assert Image.open(tmp_path / "many.png").width == MOST_PANELS * one.shape[1]


def ink(panel: Panel) -> np.ndarray:
    """Where a panel is coloured (titles and numbers are grey)."""
    drawn = np.asarray(draw_panel(panel)).astype(int)
    return drawn.max(axis=-1) - drawn.min(axis=-1) > 40


def test_bars_and_curves_have_the_heights_of_their_values() -> None:
    bars = ink(Panel("x", "bars", np.array([1.0, 2.0, -1.0])))
    columns = np.flatnonzero(bars.any(axis=0))
    thirds = np.array_split(np.arange(columns[0], columns[-1] + 1), 3)
    heights = [bars[:, third[len(third) // 2]].sum() for third in thirds]
    assert heights[1] == pytest.approx(2 * heights[0], abs=2)
    assert heights[2] == pytest.approx(heights[0], abs=2)
    # The third hangs from where the first stands.
    first, last = (np.flatnonzero(bars[:, third[len(third) // 2]]) for third in (thirds[0], thirds[2]))
    assert abs(first[-1] - last[0]) <= 1

    curve = ink(Panel("x", "curves", np.linspace(0, 1, 30) ** 2))
    columns = np.flatnonzero(curve.any(axis=0))
    rows = np.array([np.flatnonzero(curve[:, column]).mean() for column in columns])
    unit = (rows.max() - rows) / (rows.max() - rows.min())
    assert np.abs(unit - np.linspace(0, 1, len(columns)) ** 2).max() < 0.05


@pytest.mark.parametrize("kind", ["picture", "curves", "bars"])
def test_what_is_everywhere_the_same_is_shown_too(kind: Kind) -> None:
    assert draw_panel(Panel("x", kind, np.zeros((4, 4) if kind == "picture" else 4))).size
