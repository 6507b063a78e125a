"""Panels: how arrays of any kind are shown side by side."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfm_lightning.callbacks.output.panels import MOST_PANELS, Panel, panel_of, write_panels

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
    many = Image.open(tmp_path / "many.png")
    assert many.width == pytest.approx(MOST_PANELS * one.shape[1], abs=MOST_PANELS)
