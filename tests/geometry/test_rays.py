import math

import pytest
import torch

from dfm_lightning.geometry.cameras import pixel_grid
from dfm_lightning.geometry.rays import (
    corner_aligned,
    project_points,
    ray_directions,
    ray_origins,
    transform_points,
)
from dfm_lightning.types import Cameras


def camera(camera_to_world: torch.Tensor, intrinsics: torch.Tensor, pixels: torch.Tensor) -> Cameras:
    return Cameras(*(part[None, None] for part in (camera_to_world, intrinsics, camera_to_world, pixels)))


INTRINSICS = torch.tensor([[1.5, 0, 0.5], [0, 2.0, 0.25], [0, 0, 1]], dtype=torch.float64)
# Stands at (1, 2, 3) and looks along the world's −x: camera z = −x, x = z, y = y.
POSE = torch.tensor([[0.0, 0, -1, 1], [0, 1, 0, 2], [1, 0, 0, 3], [0, 0, 0, 1]], dtype=torch.float64)


def test_rays_of_a_hand_computed_camera() -> None:
    pixels = torch.tensor([[[0.5, 0.25], [2.0, 0.25], [0.5, 2.25]]], dtype=torch.float64)
    cameras = camera(POSE, INTRINSICS, pixels)
    half = math.sqrt(0.5)
    # Straight on; a pixel one focal length to the right; one focal length down.
    expected = torch.tensor([[-1, 0, 0], [-half, 0, half], [-half, half, 0]], dtype=torch.float64)
    torch.testing.assert_close(ray_directions(cameras)[0, 0, 0], expected)
    torch.testing.assert_close(ray_origins(cameras)[0, 0], POSE[:3, 3])


def test_projection_of_hand_computed_points() -> None:
    # In camera axes: x right, y down, z forward.
    points = torch.tensor([[0, 0, 2.0], [1, -1, 2], [1, -1, -2]], dtype=torch.float64)
    expected = torch.tensor([[0.5, 0.25], [1.25, -0.75], [-0.25, 1.25]], dtype=torch.float64)
    torch.testing.assert_close(project_points(INTRINSICS, points), expected, rtol=0, atol=1e-8)


def test_a_point_in_the_cameras_plane_projects_to_finite_numbers() -> None:
    points = torch.tensor([[0, 0, 0.0], [1, 0, 0], [0, 0, -1e-9], [-3, 1, -1e-9]])
    positions = project_points(INTRINSICS.float(), points)
    assert positions.isfinite().all()
    assert positions[1, 0] > 1e3


def test_points_along_a_ray_project_to_its_pixel() -> None:
    grid = pixel_grid(3, 5).double()
    cameras = camera(POSE, INTRINSICS, grid)
    points = ray_origins(cameras)[0] + 2.7 * ray_directions(cameras)[0, 0].flatten(0, 1)
    local = transform_points(torch.linalg.inv(POSE)[None, None], points[None])
    torch.testing.assert_close(project_points(INTRINSICS, local[0, 0]), grid.flatten(0, 1), atol=1e-8, rtol=0)


def test_corner_aligned_cameras_see_at_pixel_centres_what_others_see_at_corners() -> None:
    x, y = torch.linspace(0, 1, 5, dtype=torch.float64), torch.linspace(0, 1, 4, dtype=torch.float64)
    corner_grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    expected = ray_directions(camera(POSE, INTRINSICS, corner_grid))
    grid = pixel_grid(4, 5).double()
    torch.testing.assert_close(ray_directions(corner_aligned(camera(POSE, INTRINSICS, grid))), expected)
    patch = corner_aligned(camera(POSE, INTRINSICS, grid[1:3, 2:5]))
    torch.testing.assert_close(ray_directions(patch), expected[..., 1:3, 2:5, :])


def test_a_single_row_of_pixels_cannot_be_corner_aligned() -> None:
    with pytest.raises(ValueError, match="1×5"):
        corner_aligned(camera(POSE, INTRINSICS, pixel_grid(1, 5).double()))


def test_rays_stay_in_float32_under_mixed_precision() -> None:
    cameras = camera(POSE.float(), INTRINSICS.float(), pixel_grid(4, 4))
    plain = ray_directions(cameras)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ray_directions(cameras), plain)
        local = transform_points(POSE.float()[None, None], plain.reshape(1, -1, 3))
        assert local.dtype == torch.float32
        assert project_points(INTRINSICS.float(), local[0, 0]).dtype == torch.float32
