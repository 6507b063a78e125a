"""The ring of cameras of a distillation: as released, and from few cameras."""

import math

import pytest
import torch
from sparsefusion_reference import PRECISIONS, check, reference
from torch import Tensor

from dfm_lightning.geometry.camera_ring import level_ring, plane_ring
from dfm_lightning.geometry.cameras import look_at, pytorch3d_to_opencv


def around(count: int, axis: Tensor, part: float = 1.0) -> Tensor:
    """Level cameras on a circle around an axis through the origin, at half their distance above its plane."""
    axis = axis.double() / axis.norm()
    side = torch.linalg.svd(axis[None])[2][1]
    angle = torch.arange(count, dtype=torch.float64)[:, None] / count * 2 * math.pi * part
    away = angle.cos() * side + angle.sin() * torch.linalg.cross(axis, side)
    return look_at(4 * away + 2 * axis, torch.zeros(3, dtype=torch.float64), axis)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ring_and_jitter_are_the_released_and_the_meant_ones(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["cameras"]
    expected, scene = case[precision], case["scene"]["opencv"]
    ring = plane_ring(scene["camera_to_world"].to(dtype), scene["intrinsics_normalised"].to(dtype))
    check(ring.focus, expected["focus"], tolerance)
    check(ring.centre, expected["circle_centre"], tolerance)
    check(ring.radius, expected["circle_radius"], tolerance)
    positions = ring.positions(torch.linspace(0, 2 * math.pi, 7, dtype=dtype))
    check(positions, expected["path"]["centres"], tolerance)
    check(ring.poses(positions), pytorch3d_to_opencv(expected["path"]["R"], expected["path"]["T"]), tolerance)
    angles = (2 * case["uniforms"].to(dtype) - 1) * 0.17
    check(angles, expected["jitter_angles"], tolerance)
    # Towards the plane's normal, which points down in this scene.
    check(ring.raised(positions, -angles), expected["jittered_as_meant_centres"], tolerance)


@pytest.mark.parametrize("axis", [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, -2.0, 0.5]])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_level_ring_goes_around_what_is_looked_at(count: int, axis: list[float]) -> None:
    up = torch.tensor(axis, dtype=torch.float64)
    poses = around(count, up, part=0.25 if count < 8 else 1.0)
    ring = level_ring(poses)
    # One camera does not say how far it looks down.
    assert ring.up @ up / up.norm() > (0.85 if count == 1 else 1 - 1e-9)
    assert ring.focus.norm() < 1e-4
    positions = ring.positions(torch.linspace(0, 6, 5, dtype=torch.float64))
    check(positions.norm(dim=1), poses[:1, :3, 3].norm(dim=1).expand(5), 1e-4)
    assert ring.poses(positions).isfinite().all()
    check(positions[:1], poses[:1, :3, 3], 1e-4)


def test_raised_cameras_keep_their_distance() -> None:
    ring = level_ring(around(8, torch.tensor([0.0, 0.0, 1.0])))
    positions = ring.positions(torch.linspace(0, 6, 4, dtype=torch.float64))
    angles = torch.tensor([0.1, -0.2, 0.0, 0.15], dtype=torch.float64)
    raised = ring.raised(positions, angles) - ring.focus
    before = positions - ring.focus
    check(raised.norm(dim=1), before.norm(dim=1), 1e-12)

    def elevation(away: Tensor) -> Tensor:
        return torch.asin(away @ ring.up / away.norm(dim=1))

    torch.testing.assert_close(elevation(raised) - elevation(before), angles)


def test_two_cameras_determine_no_plane() -> None:
    poses = around(2, torch.tensor([0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="three cameras"):
        plane_ring(poses, torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
