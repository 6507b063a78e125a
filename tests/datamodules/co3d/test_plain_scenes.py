"""Plain scenes are those of the same seed, without patterns and companions."""

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.synthetic.co3d.scene import Scene, draw_scene
from datamodules.synthetic.co3d.writer import write_synthetic_co3d
from dfm_lightning.errors import UserError

SMALL = {"train_scenes": 1, "val_scenes": 0, "test_scenes": 1, "frames": 4, "height": 16, "width": 16}


def drawn(seed: int, plain: bool) -> Scene:
    camera, middle = np.array([2.0, 1.0, 2.0], np.float32), np.array([0.0, 0.5, 0.0], np.float32)
    return draw_scene(np.random.default_rng(seed), np.random.default_rng(100 + seed), camera, middle, plain)


@pytest.mark.parametrize("seed", range(8))
def test_only_patterns_and_companions_are_gone(seed: int) -> None:
    plain, full = drawn(seed, True), drawn(seed, False)
    objects = [part for part in full.parts if part.is_object]
    assert len(plain.parts) == len(objects) == 2
    for one, other in zip(plain.parts, objects, strict=True):
        np.testing.assert_equal(one.solid, other.solid)
        np.testing.assert_equal(one.back, other.back)
        assert (one.front.colours[0] == other.front.colours[0]).all()
        assert (one.front.colours[1] == one.front.colours[0]).all()
        assert (other.front.colours[1] != other.front.colours[0]).any()
    assert (plain.ground.colours[0] == plain.ground.colours[1]).all()
    assert plain.back_colour == full.back_colour
    np.testing.assert_equal([plain.sun, plain.zenith], [full.sun, full.zenith])


def test_some_full_scenes_have_companions() -> None:
    assert max(len(drawn(seed, False).parts) for seed in range(8)) > 2


def test_the_truth_file_names_plain_scenes_and_keeps_the_others_settings(tmp_path: Path) -> None:
    """Roots written before there were plain scenes can still be completed."""
    for name, options in (("full", {}), ("plain", {"plain": True})):
        write_synthetic_co3d(tmp_path / name, **SMALL, **options)
    full, plain = (
        json.loads((tmp_path / name / "truth.json").read_text())["settings"] for name in ("full", "plain")
    )
    assert "plain" not in full
    assert plain == {**full, "plain": True}
    with pytest.raises(UserError, match="other settings"):
        write_synthetic_co3d(tmp_path / "full", **SMALL, plain=True)
