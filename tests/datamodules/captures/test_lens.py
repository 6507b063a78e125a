"""Lens distortion against OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.captures.lens import Lens, distort, straighten, undistort
from dfm_lightning.errors import UserError

PHONE = Lens(1080, 1920, 1375.5, 1374.5, 554.6, 965.3, k1=0.0578, k2=-0.0805, p1=-0.00098, p2=0.00016)
BARREL = Lens(320, 240, 200, 210, 150, 125, k1=-0.22, k2=0.05, p1=0.002, p2=-0.003)
RATIONAL = Lens(320, 240, 260, 250, 165, 115, 0.3, 0.1, 0.001, -0.002, 0.02, 0.25, 0.05, 0.01)
LENSES = [PHONE, BARREL, RATIONAL]


def opencv(lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's camera matrix (pixel centres at whole numbers) and coefficients."""
    matrix = np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1]])
    return matrix, np.array(lens[6:])


def places(lens: Lens) -> np.ndarray:
    """Positions all over the image, on the image plane at distance 1."""
    x, y = np.meshgrid(np.linspace(0, lens.width, 9), np.linspace(0, lens.height, 9))
    return np.stack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy], axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("lens", LENSES)
def test_distort_is_opencvs_model(lens: Lens) -> None:
    points = places(lens)
    expected = cv2.projectPoints(np.c_[points, np.ones(len(points))], np.zeros(3), np.zeros(3), np.eye(3),
                                 np.array(lens[6:]))[0][:, 0]  # fmt: skip
    np.testing.assert_allclose(distort(torch.from_numpy(points), lens).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("lens", LENSES)
def test_undistort_is_its_inverse(lens: Lens) -> None:
    points = torch.from_numpy(places(lens))
    straight = undistort(points, lens)
    torch.testing.assert_close(distort(straight, lens), points, atol=1e-12, rtol=0)
    expected = cv2.undistortPoints(
        points.numpy()[:, None], np.eye(3), np.array(lens[6:]), criteria=(cv2.TERM_CRITERIA_EPS, 500, 1e-13)
    )
    np.testing.assert_allclose(straight.numpy(), expected[:, 0], atol=1e-6)


def test_pictures_are_straightened_where_derivatives_are_switched_off() -> None:
    """As a trainer does while it tests and predicts."""
    lens = BARREL._replace(k1=-0.21)  # of no other test: nothing is remembered
    with torch.inference_mode():
        found = straighten(Image.fromarray(smooth_picture(320, 240)), lens)
        inside = lens.pinhole()
    assert torch.equal(inside, lens.pinhole())
    again = straighten(Image.fromarray(smooth_picture(320, 240)), lens)
    assert np.array_equal(np.asarray(found), np.asarray(again))


def test_coefficients_without_an_inverse_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be undone"):
        BARREL._replace(k1=-2.0).pinhole()


def test_a_straight_lens_keeps_its_intrinsics_and_picture() -> None:
    lens = Lens(200, 100, 150, 140, 90, 55)
    expected = torch.tensor([[0.75, 0, 0.45], [0, 1.4, 0.55], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(lens.pinhole(), expected)
    picture = Image.new("RGB", (20, 10), (1, 2, 3))
    assert straighten(picture, lens) is picture


def smooth_picture(width: int, height: int) -> np.ndarray:
    """A picture without edges, so that the kind of interpolation does not matter."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [np.sin(x / 11 + i) * np.cos(y / (9 + i)) for i in range(3)]
    return (127.5 + 110 * np.stack(waves, axis=-1)).round().astype(np.uint8)


@pytest.mark.parametrize("lens", [BARREL, RATIONAL])
def test_straightened_pictures_are_opencvs(lens: Lens) -> None:
    picture = smooth_picture(320, 240)
    matrix, coefficients = opencv(lens)
    wanted = lens.pinhole().numpy() * np.array([[lens.width], [lens.height], [1]])
    wanted[:2, 2] -= 0.5
    expected = cv2.undistort(picture, matrix, coefficients, None, wanted)
    found = np.asarray(straighten(Image.fromarray(picture), lens)).astype(int)
    # A pixel's rim, where OpenCV takes black from outside, is left out.
    difference = np.abs(found - expected.astype(int))[2:-2, 2:-2]
    assert difference.max() <= 2


@pytest.mark.parametrize("lens", [PHONE, BARREL])
def test_the_pinhole_sees_no_more_than_the_lens_and_not_much_less(lens: Lens) -> None:
    intrinsics = lens.pinhole().numpy()
    along = np.linspace(0, 1, 200)
    zero = np.zeros_like(along)
    for edge in ((zero, along), (zero + 1, along), (along, zero), (along, zero + 1)):
        plane = (np.stack(edge, axis=-1) - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
        x, y = distort(torch.from_numpy(plane), lens).numpy().T
        x, y = x * lens.fx + lens.cx, y * lens.fy + lens.cy
        tolerance = 1e-3 * lens.width
        assert x.min() > -tolerance
        assert x.max() < lens.width + tolerance
        assert y.min() > -tolerance
        assert y.max() < lens.height + tolerance
        # Each edge touches the border of the lens's image somewhere.
        gap = np.min([x, lens.width - x, y, lens.height - y])
        assert gap < tolerance


def test_the_picture_may_be_smaller_than_the_lens_was_measured_for() -> None:
    large = Image.fromarray(smooth_picture(320, 240))
    small = large.resize((160, 120), Image.Resampling.BOX)
    expected = straighten(large, BARREL).resize((160, 120), Image.Resampling.BOX)
    difference = np.abs(np.asarray(straighten(small, BARREL)).astype(int) - np.asarray(expected).astype(int))
    assert difference[1:-1, 1:-1].max() <= 4
