"""Lenses that bend: OpenCV's distortion model, its inverse, and pictures without it."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import intrinsics_matrix, pixel_grid
from dfm_lightning.geometry.images import image_to_tensor, tensor_to_image

_NEWTON_STEPS = 20
_EDGE_SAMPLES = 101


class Lens(NamedTuple):
    """Focal lengths and principal point in pixels of a width × height image (origin at its corner), and the
    coefficients of OpenCV's model: radial k1 to k6 (k4 to k6 below the fraction line), tangential p1, p2."""

    width: float
    height: float
    fx: float
    fy: float
    cx: float
    cy: float
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0

    @property
    def is_straight(self) -> bool:
        """Whether it is a pinhole."""
        return not any(self[6:])

    def pinhole(self) -> Float64[Tensor, "3 3"]:
        """Normalised intrinsics of the pinhole camera that sees the largest upright rectangle which the lens sees
        too, so that its picture has no empty corners. Without distortion, those of the lens."""
        size, focal, centre = _pairs(self)
        if self.is_straight:
            return intrinsics_matrix(focal / size, centre / size)
        lower, upper = _inner_rectangle(self)
        return intrinsics_matrix(1 / (upper - lower), -lower / (upper - lower))


def _pairs(lens: Lens) -> tuple[Float64[Tensor, "2"], Float64[Tensor, "2"], Float64[Tensor, "2"]]:
    """Size, focal lengths and principal point (x, y)."""
    pairs = ((lens.width, lens.height), (lens.fx, lens.fy), (lens.cx, lens.cy))
    size, focal, centre = (torch.tensor(pair, dtype=torch.float64) for pair in pairs)
    return size, focal, centre


def distort(points: Float[Tensor, "*n 2"], lens: Lens) -> Float[Tensor, "*n 2"]:
    """Where the lens puts what a pinhole would see at (x, y), both on the image plane at distance 1."""
    x, y = points.unbind(dim=-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))) / (
        1 + r2 * (lens.k4 + r2 * (lens.k5 + r2 * lens.k6))
    )
    bent_x = x * radial + 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x)
    bent_y = y * radial + lens.p1 * (r2 + 2 * y * y) + 2 * lens.p2 * x * y
    return torch.stack([bent_x, bent_y], dim=-1)


# Newton's method takes derivatives, also of pictures that are read while a trainer has switched them off.
@torch.inference_mode(False)
def undistort(points: Float[Tensor, "n 2"], lens: Lens) -> Float[Tensor, "n 2"]:
    """The inverse of `distort`, by Newton's method from the points themselves.

    Raises:
        UserError: where the coefficients have no inverse at a point: they cannot belong to such an image.
    """
    points = points.detach().clone()
    straight = points.clone()
    for _ in range(_NEWTON_STEPS):
        straight.requires_grad_(True)
        with torch.enable_grad():
            bent = distort(straight, lens)
            rows = [torch.autograd.grad(bent[:, axis].sum(), straight, retain_graph=True)[0] for axis in (0, 1)]
        step = torch.linalg.solve(torch.stack(rows, dim=1), points - bent.detach())
        straight = straight.detach() + step
    # Also of the wrong branch of the polynomial, where the image would be turned inside out.
    error = (distort(straight, lens) - points).abs().max()
    if not error < 1e-6 or (torch.stack(rows, dim=1).det() <= 0).any():
        raise UserError(f"the distortion of {lens} cannot be undone within its image: check its coefficients")
    return straight


def _inner_rectangle(lens: Lens) -> tuple[Float64[Tensor, "2"], Float64[Tensor, "2"]]:
    """Corners of the largest upright rectangle on the image plane (at distance 1) within what the lens sees."""
    along = torch.linspace(0, 1, _EDGE_SAMPLES, dtype=torch.float64)
    zero, one = torch.zeros_like(along), torch.ones_like(along)
    edges = [torch.stack(edge, dim=-1) for edge in ((zero, along), (one, along), (along, zero), (along, one))]
    size, focal, centre = _pairs(lens)
    left, right, top, bottom = (undistort((edge * size - centre) / focal, lens) for edge in edges)
    lower = torch.stack([left[:, 0].max(), top[:, 1].max()])
    upper = torch.stack([right[:, 0].min(), bottom[:, 1].min()])
    return lower, upper


def straighten(picture: Image.Image, lens: Lens) -> Image.Image:
    """The picture as the lens's `pinhole` sees it, in the same size."""
    if lens.is_straight:
        return picture
    grid = _sampling_grid(lens, picture.width, picture.height)
    image = image_to_tensor(picture)[None]
    straight = torch.nn.functional.grid_sample(image, grid, "bilinear", "border", align_corners=False)
    return tensor_to_image(straight[0])


@lru_cache(maxsize=4)
def _sampling_grid(lens: Lens, width: int, height: int) -> Float[Tensor, "1 h w 2"]:
    """For each pixel of the straight picture its place in the bent one, in [-1, 1]."""
    intrinsics = lens.pinhole()
    straight = (pixel_grid(height, width).double() - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    size, focal, centre = _pairs(lens)
    place = (distort(straight, lens) * focal + centre) / size
    return (place * 2 - 1).float()[None]
