"""Lenses: COLMAP's camera models (OpenCV's among them), and pictures undistorted to a pinhole's view."""

import math
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import FOCAL_RANGE, intrinsics_matrix, pixel_grid
from dfm_lightning.geometry.images import image_to_tensor, tensor_to_image

PINHOLE = "PINHOLE"
# Models that are pinholes if their distortion coefficients are zero.
PERSPECTIVE = ("SIMPLE_PINHOLE", PINHOLE, "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
# Beyond this (tangent of the angle to the axis: 63 degrees) a pinhole's picture is too stretched to be useful.
_WIDEST = 2.0
_LARGEST_SIDE = 1e6
_CHECKED_PLACES = 33
# Largest error, in pixels, of distorting and undistorting a point.
_TOLERANCE = 1e-2


class FrameError(Exception):
    """A frame cannot be used: the kind of reason, and what exactly was found."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


def load_pycolmap() -> ModuleType:
    """Import pycolmap, which only lenses with distortion and COLMAP's own files need."""
    try:
        import pycolmap
    except ImportError as error:
        raise UserError(
            f"COLMAP's models and lenses with distortion need pycolmap, which cannot be imported ({error}): "
            "pip install pycolmap"
        ) from None
    return pycolmap


class Lens(NamedTuple):
    """One of COLMAP's camera models with its parameters, in pixels of a width × height image (origin at its
    corner).

    A lens without distortion is always a PINHOLE: fx, fy, cx, cy.
    """

    model: str
    width: float
    height: float
    parameters: tuple[float, ...]

    @property
    def is_straight(self) -> bool:
        """Tell whether it is a pinhole."""
        return self.model == PINHOLE

    def pinhole(self) -> Float64[Tensor, "3 3"]:
        """Return normalised intrinsics of a pinhole camera whose upright rectangle the lens covers.

        Without distortion, they are the lens's own. Otherwise COLMAP chooses the rectangle so that the picture has
        no empty corners; it is cut off beyond 63 degrees from the axis.

        Raises:
            FrameError: the distortion cannot be inverted there, so its coefficients do not fit such an image.
        """
        return _pinhole(self)

    def camera(self) -> Any:
        """Return the lens as pycolmap's Camera."""
        width, height = round(self.width), round(self.height)
        return load_pycolmap().Camera(model=self.model, width=width, height=height, params=list(self.parameters))


def opencv_lens(
    width: float, height: float, focal: tuple[float, float], centre: tuple[float, float],
    distortion: dict[str, float], fisheye: bool,
) -> Lens:  # fmt: skip
    """Build a lens from OpenCV's names of the coefficients: k1 to k6, p1, p2, or k1 to k4 of its fisheye model.

    Missing coefficients are zero. Raises FrameError if numbers are impossible.
    """
    check_numbers(width, height, focal, centre, tuple(distortion.values()))
    names = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    coefficients = tuple(distortion.get(name, 0.0) for name in names)
    if not fisheye and not any(coefficients):
        return Lens(PINHOLE, width, height, (*focal, *centre))
    return Lens("OPENCV_FISHEYE" if fisheye else "FULL_OPENCV", width, height, (*focal, *centre, *coefficients))


def check_numbers(
    width: float, height: float, focal: tuple[float, float], centre: tuple[float, float],
    distortion: tuple[float, ...],
) -> None:  # fmt: skip
    """Check that numbers can belong to a lens. Raises FrameError with the fault."""
    if not all(1 <= side <= _LARGEST_SIDE for side in (width, height)):
        raise FrameError("the size of the image is impossible", f"{width:g}×{height:g} pixels")
    least, most = (bound * max(width, height) for bound in FOCAL_RANGE)
    if not all(least <= length <= most for length in focal):
        found = f"{focal[0]:g}, {focal[1]:g} pixels for an image of {width:g}×{height:g}"
        raise FrameError("the focal length is impossible", found)
    if not all(abs(place) <= _LARGEST_SIDE for place in centre):
        raise FrameError("the principal point is impossible", f"{centre[0]:g}, {centre[1]:g}")
    if not all(math.isfinite(value) for value in distortion):
        raise FrameError("the distortion is not finite", f"{list(distortion)}")


@lru_cache(maxsize=1024)
def _pinhole(lens: Lens) -> Float64[Tensor, "3 3"]:
    if lens.is_straight:
        fx, fy, cx, cy = lens.parameters
        size = torch.tensor([lens.width, lens.height], dtype=torch.float64)
        focal, centre = torch.tensor([[fx, fy], [cx, cy]], dtype=torch.float64)
        return intrinsics_matrix(focal / size, centre / size)
    pycolmap = load_pycolmap()
    camera = lens.camera()
    straight = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
    corners = straight.cam_from_img(np.array([[0.0, 0.0], [straight.width, straight.height]]))
    lower, upper = np.clip(corners, -_WIDEST, _WIDEST)
    _check_inverse(camera, lower, upper)
    lower, upper = torch.from_numpy(lower), torch.from_numpy(upper)
    return intrinsics_matrix(1 / (upper - lower), -lower / (upper - lower))


def _check_inverse(camera: Any, lower: np.ndarray, upper: np.ndarray) -> None:
    """Check that the lens maps a rectangle of the image plane into its image one to one."""
    inside = np.stack(np.meshgrid(*np.linspace(lower, upper, _CHECKED_PLACES).T), axis=-1).reshape(-1, 2)
    places = _distort(camera, inside)
    size = np.array([camera.width, camera.height])
    within = (places > -1 - 0.01 * size) & (places < size * 1.01 + 1)
    # (Negated so that NaN fails too.)
    if not within.all() or not _missed(camera, places, inside) < _TOLERANCE:
        raise FrameError(
            "the distortion cannot be undone within the image: check its coefficients",
            f"{camera.model_name} {camera.params_to_string()}",
        )


def _missed(camera: Any, places: np.ndarray, plane: np.ndarray) -> float:
    """Return the largest distance, in pixels, between pixels and their images after mapping back and forth."""
    return float(np.abs(camera.cam_from_img(places) - plane).max()) * camera.mean_focal_length()


def _distort(camera: Any, plane: np.ndarray) -> np.ndarray:
    """Compute the pixels at which the lens sees points (x, y, 1)."""
    return camera.img_from_cam(np.concatenate([plane, np.ones((len(plane), 1))], axis=1))


def straighten(picture: Image.Image, lens: Lens) -> Image.Image:
    """Resample the picture as the lens's `pinhole` sees it, in the same size."""
    if lens.is_straight:
        return picture
    grid = _sampling_grid(lens, picture.width, picture.height)
    image = image_to_tensor(picture)[None]
    straight = torch.nn.functional.grid_sample(image, grid, "bilinear", "border", align_corners=False)
    return tensor_to_image(straight[0])


@lru_cache(maxsize=4)
def _sampling_grid(lens: Lens, width: int, height: int) -> Float[Tensor, "1 h w 2"]:
    """Return for each pixel of the undistorted picture its place in the distorted one, in [-1, 1]."""
    intrinsics = lens.pinhole()
    plane = (pixel_grid(height, width).double() - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    places = _distort(lens.camera(), plane.reshape(-1, 2).numpy()) / [lens.width, lens.height]
    return (torch.from_numpy(places).reshape(1, height, width, 2) * 2 - 1).float()
