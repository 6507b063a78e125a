"""Synthetic clips: the true motion explains the frames, and the first frame does not tell the direction."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.stats import binomtest

from datamodules.synthetic.clips import write_synthetic_clips
from datamodules.synthetic.clips.writer import Settings, draw_clip
from datamodules.vimeo90k.truth import open_truths
from dfm_lightning.errors import UserError


def frame(root: Path, name: str, number: int) -> np.ndarray:
    return np.asarray(Image.open(root / "sequences" / name / f"im{number}.png"), dtype=float)


def test_the_true_flow_leads_to_where_a_pixel_is_seen_again(clips_root: Path) -> None:
    truths = open_truths(clips_root)
    assert truths is not None
    for name in ("00001/0001", "00001/0004", "00001/0011"):
        for first, second in ((0, 6), (6, 0), (2, 3)):
            a, b = frame(clips_root, name, first + 1), frame(clips_root, name, second + 1)
            y, x = np.mgrid[: a.shape[0], : a.shape[1]].astype(float)
            flow, shape = truths.read(name).flow(first, second, x, y)
            seen_again = np.stack(
                [map_coordinates(b[..., c], [y + flow[..., 1], x + flow[..., 0]], order=1) for c in range(3)], -1
            )
            # Edges of shapes are mixed with the background; the texture within has to agree.
            inner = shape == 1
            for step in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
                inner &= np.roll(shape, step, (0, 1)) == 1
            assert inner.sum() > 20
            error = np.abs(seen_again - a)[inner].mean()
            assert error < 3
            assert np.abs(frame(clips_root, name, second + 1) - a)[inner].mean() > 2 * error
            assert (flow[shape == 0] == 0).all()


def test_directions_are_those_of_the_law_and_in_the_truth_file(tmp_path: Path) -> None:
    law = {"directions": (90.0, 210.0), "probabilities": (0.2, 0.8)}
    write_synthetic_clips(tmp_path, train_clips=3, test_clips=1, height=32, width=32, **law)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["distribution"] == {"directions": [90.0, 210.0], "probabilities": [0.2, 0.8]}
    truths = open_truths(tmp_path)
    assert truths is not None
    for name, clip in truth["clips"].items():
        shape = clip["shapes"][0]
        whole = (slice(None), slice(None))
        tensors = truths.tensors(name, 0, 6, (32, 32), whole)
        mean = tensors["flow"][:, tensors["shape"][0] == 1].mean(dim=1)
        angle = np.rad2deg(np.arctan2(mean[1].item(), mean[0].item())) % 360
        # Turning and growing move no shape's middle; the mask's centre is that but for its pixels.
        assert abs(angle - [90, 210][shape["direction"]]) < 8
        np.testing.assert_allclose(mean.numpy(), shape["way"], atol=0.5)
        backward = truths.tensors(name, 6, 0, (32, 32), whole)["directions"]
        np.testing.assert_allclose(backward.numpy(), -tensors["directions"].numpy())


def test_directions_are_drawn_as_often_as_the_law_says() -> None:
    settings = Settings(
        "septuplet", 400, 0, 32, 32, 1, [0.0, 90.0, 180.0], [0.5, 0.2, 0.3], (0.1, 0.15), 10, 1.1, seed=3
    )
    drawn = [draw_clip(settings, number).movements[0].direction for number in range(400)]
    for number, probability in enumerate(settings.probabilities):
        assert binomtest(drawn.count(number), 400, probability).pvalue > 0.01


def test_the_first_frame_does_not_depend_on_the_direction(tmp_path: Path) -> None:
    sizes = {"train_clips": 6, "test_clips": 0, "height": 32, "width": 32}
    for folder, probabilities in (("right", (1.0, 0.0)), ("left", (0.0, 1.0))):
        write_synthetic_clips(tmp_path / folder, probabilities=probabilities, **sizes)
    for number in range(1, 7):
        name = f"00001/{number:04d}"
        assert (frame(tmp_path / "right", name, 1) == frame(tmp_path / "left", name, 1)).all()
        assert (frame(tmp_path / "right", name, 7) != frame(tmp_path / "left", name, 7)).any()


def test_resumed_writing_gives_the_same_files(tmp_path: Path) -> None:
    sizes = {"form": "triplet", "train_clips": 3, "test_clips": 1, "height": 24, "width": 32}
    write_synthetic_clips(tmp_path / "a", **sizes)
    write_synthetic_clips(tmp_path / "b", **sizes)
    (tmp_path / "b" / "sequences" / "00001" / "0002").rename(tmp_path / "elsewhere")
    write_synthetic_clips(tmp_path / "b", **sizes, workers=2)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 4 * 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with pytest.raises(UserError, match="settings"):
        write_synthetic_clips(tmp_path / "a", **{**sizes, "height": 32})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"travel": (0.3, 0.4)}, "do not stay in frames"),
        ({"travel": (0.2, 0.1)}, "travel must be"),
        ({"probabilities": (0.5, 0.6)}, "sum to 1"),
        ({"probabilities": (1.0,)}, "equally many"),
        ({"growth": 0.5}, "growth at least 1"),
        ({"train_clips": 0, "test_clips": 0}, "one of them above"),
        ({"shapes": 0}, "at least 1 shape"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_synthetic_clips(tmp_path / "a", **wrong)
    assert not (tmp_path / "a").exists()
