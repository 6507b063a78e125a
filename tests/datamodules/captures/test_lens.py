"""Lenses against OpenCV: its perspective model with distortion, and its fisheye model."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.captures.lens import FrameError, Lens, opencv_lens, straighten
from dfm_lightning.errors import UserError


def make_lens(
    width: float, height: float, focal: tuple, centre: tuple, distortion: dict[str, float], fisheye: bool
) -> Lens:
    """A lens by numbers that may be whole."""
    lengths, middle = ((float(x), float(y)) for x, y in (focal, centre))
    return opencv_lens(float(width), float(height), lengths, middle, distortion, fisheye)


PHONE = make_lens(
    1080,
    1920,
    (1375.5, 1374.5),
    (554.6, 965.3),
    {"k1": 0.0578, "k2": -0.0805, "p1": -0.00098, "p2": 0.00016},
    False,
)
BARREL = make_lens(320, 240, (200, 210), (150, 125), {"k1": -0.22, "k2": 0.05, "p1": 0.002, "p2": -0.003}, False)
RATIONAL = make_lens(
    320,
    240,
    (260, 250),
    (165, 115),
    {"k1": 0.3, "k2": 0.1, "p1": 0.001, "p2": -0.002, "k3": 0.02, "k4": 0.25, "k5": 0.05, "k6": 0.01},
    False,
)
FISHEYE = make_lens(320, 240, (190, 195), (155, 125), {"k1": 0.05, "k2": -0.02, "k3": 0.004, "k4": 0.001}, True)
LENSES = [PHONE, BARREL, RATIONAL, FISHEYE]


def opencv(lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's camera matrix (pixel centres at whole numbers) and coefficients."""
    fx, fy, cx, cy = lens.parameters[:4]
    return np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]]), np.array(lens.parameters[4:])


def bent_places(lens: Lens, plane: np.ndarray) -> np.ndarray:
    """Pixels (origin at the corner) at which OpenCV's lens sees points [n, 2] of the plane at distance 1."""
    matrix, coefficients = opencv(lens)
    points = np.c_[plane, np.ones(len(plane))][:, None]
    zero = np.zeros(3)
    if lens.model == "OPENCV_FISHEYE":
        return cv2.fisheye.projectPoints(points, zero, zero, matrix, coefficients)[0][:, 0] + 0.5
    return cv2.projectPoints(points, zero, zero, matrix, coefficients)[0][:, 0] + 0.5


def smooth_picture(width: int, height: int) -> np.ndarray:
    """A picture without edges, so that the kind of interpolation does not matter."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [np.sin(x / 11 + i) * np.cos(y / (9 + i)) for i in range(3)]
    return (127.5 + 110 * np.stack(waves, axis=-1)).round().astype(np.uint8)


@pytest.mark.parametrize("lens", [BARREL, RATIONAL, FISHEYE])
def test_straightened_pictures_are_opencvs(lens: Lens) -> None:
    picture = smooth_picture(320, 240)
    matrix, coefficients = opencv(lens)
    wanted = lens.pinhole().numpy() * np.array([[lens.width], [lens.height], [1]])
    wanted[:2, 2] -= 0.5
    if lens.model == "OPENCV_FISHEYE":
        expected = cv2.fisheye.undistortImage(picture, matrix, coefficients, None, wanted)
    else:
        expected = cv2.undistort(picture, matrix, coefficients, None, wanted)
    found = np.asarray(straighten(Image.fromarray(picture), lens)).astype(int)
    # A pixel's rim, where OpenCV takes black from outside, is left out.
    difference = np.abs(found - expected.astype(int))[2:-2, 2:-2]
    assert difference.max() <= 2
    assert np.abs(found - picture.astype(int)).mean() > 5, "the lens does bend"


@pytest.mark.parametrize("lens", LENSES)
def test_the_pinhole_sees_no_more_than_the_lens_and_not_much_less(lens: Lens) -> None:
    intrinsics = lens.pinhole().numpy()
    along = np.linspace(0, 1, 200)
    zero = np.zeros_like(along)
    gaps = []
    for edge in ((zero, along), (zero + 1, along), (along, zero), (along, zero + 1)):
        plane = (np.stack(edge, axis=-1) - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
        x, y = bent_places(lens, plane).T
        tolerance = 0.01 * lens.width
        assert x.min() > -tolerance
        assert x.max() < lens.width + tolerance
        assert y.min() > -tolerance
        assert y.max() < lens.height + tolerance
        gaps.append(np.min([x, lens.width - x, y, lens.height - y]))
    # Each edge comes near the border of the lens's image somewhere.
    assert max(gaps) < 0.03 * lens.width, gaps


def test_a_lens_of_half_a_sphere_is_cut_where_a_pinhole_would_stretch() -> None:
    sphere = make_lens(320, 320, (60, 60), (160, 160), {}, True)
    intrinsics = sphere.pinhole()
    corner = (-intrinsics[:2, 2] / intrinsics[[0, 1], [0, 1]]).tolist()
    assert corner == [-2, -2]
    picture = smooth_picture(320, 320)
    found = np.asarray(straighten(Image.fromarray(picture), sphere)).astype(int)
    place = bent_places(sphere, np.array([[2 * 0.5, 2 * 0.25]]))[0]
    # In the straight picture (1, 0.5) lies three quarters to the right and five eighths down.
    assert np.abs(found[200, 240] - picture[int(place[1]), int(place[0])]).max() < 25


def test_pictures_are_straightened_where_derivatives_are_switched_off() -> None:
    """As a trainer does while it tests and predicts."""
    lens = BARREL._replace(parameters=(*BARREL.parameters[:4], -0.21, *BARREL.parameters[5:]))
    with torch.inference_mode():
        found = straighten(Image.fromarray(smooth_picture(320, 240)), lens)
        inside = lens.pinhole()
    assert torch.equal(inside, lens.pinhole())
    again = straighten(Image.fromarray(smooth_picture(320, 240)), lens)
    assert np.array_equal(np.asarray(found), np.asarray(again))


@pytest.mark.parametrize("fisheye", [False, True])
def test_coefficients_without_an_inverse_are_refused(fisheye: bool) -> None:
    lens = make_lens(320, 240, (200, 210), (150, 125), {"k1": -2.0}, fisheye)
    with pytest.raises(FrameError, match=r"lens|distortion"):
        lens.pinhole()


def test_a_straight_lens_keeps_its_intrinsics_and_picture() -> None:
    lens = make_lens(200, 100, (150, 140), (90, 55), {"k1": 0.0}, False)
    assert lens.is_straight
    expected = torch.tensor([[0.75, 0, 0.45], [0, 1.4, 0.55], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(lens.pinhole(), expected)
    picture = Image.new("RGB", (20, 10), (1, 2, 3))
    assert straighten(picture, lens) is picture


def test_the_picture_may_be_smaller_than_the_lens_was_measured_for() -> None:
    large = Image.fromarray(smooth_picture(320, 240))
    small = large.resize((160, 120), Image.Resampling.BOX)
    expected = straighten(large, BARREL).resize((160, 120), Image.Resampling.BOX)
    difference = np.abs(np.asarray(straighten(small, BARREL)).astype(int) - np.asarray(expected).astype(int))
    assert difference[1:-1, 1:-1].max() <= 4


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"width": 0}, "size of the image"),
        ({"height": -3}, "size of the image"),
        ({"width": float("nan")}, "size of the image"),
        ({"height": 1e9}, "size of the image"),
        ({"focal": (0.0, 200)}, "focal length"),
        ({"focal": (200, -200)}, "focal length"),
        ({"focal": (float("inf"), 200)}, "focal length"),
        ({"focal": (200, float("nan"))}, "focal length"),
        ({"focal": (1e-30, 1e-30)}, "focal length"),
        ({"centre": (float("nan"), 3)}, "principal point"),
        ({"centre": (3, float("-inf"))}, "principal point"),
        ({"distortion": {"k1": float("nan")}}, "distortion is not finite"),
    ],
)
def test_impossible_numbers_are_refused_by_name(change: dict, kind: str) -> None:
    numbers = {"width": 320, "height": 240, "focal": (200, 210), "centre": (150, 125), "distortion": {}}
    make_lens(**numbers, fisheye=False)
    with pytest.raises(FrameError, match=kind):
        make_lens(**{**numbers, **change}, fisheye=False)


def test_pinholes_do_not_need_pycolmap_and_lenses_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    make_lens(201, 100, (150, 140), (90, 55), {}, False).pinhole()
    with pytest.raises(UserError, match="pycolmap"):
        make_lens(201, 100, (150, 140), (90, 55), {"k1": 0.1}, False).pinhole()


def test_importing_the_data_modules_does_not_import_pycolmap() -> None:
    code = "import sys, datamodules.captures.lens; sys.exit('pycolmap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
