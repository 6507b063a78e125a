"""Trajectories against circles and cameras that are known beforehand, in any orientation."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dfm_lightning.geometry.cameras import is_valid_pose, look_at, pose_matrix
from dfm_lightning.geometry.trajectories import (
    circle_cameras,
    comes_back,
    extrapolate_poses,
    fit_circle,
    focus_point,
    interpolate_poses,
    up_direction,
)

# The preference for what cameras hold up turns the axis by this much at most.
TOLERANCE = 1e-4


def orbit(
    angles: torch.Tensor, radius: float = 3.0, height: float = 1.0, focus_height: float = 0.2
) -> torch.Tensor:
    """Cameras about the y axis that look at (0, focus_height, 0)."""
    angles = angles.double()
    position = torch.stack([radius * angles.sin(), torch.full_like(angles, height), radius * angles.cos()], dim=1)
    target = torch.tensor([0.0, focus_height, 0.0]).double()
    return look_at(position, target, torch.tensor([0.0, 1.0, 0.0]).double())


def turned(poses: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same cameras in another world, and the matrix that took them there."""
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    world = pose_matrix(rotation, torch.tensor([4.0, -2.0, 1.0]).double())
    return world @ poses, world


def around(degrees: float, count: int) -> torch.Tensor:
    return torch.linspace(0, math.radians(degrees), count)


def test_focus_point_of_cameras_that_look_at_one_point() -> None:
    poses, world = turned(orbit(around(100, 7)), seed=1)
    expected = (world @ torch.tensor([0, 0.2, 0, 1.0]).double())[:3]
    torch.testing.assert_close(focus_point(poses), expected)


def test_focus_point_minimises_the_distances_to_the_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = orbit(around(360, 8))
    poses[:, :3, 3] += 0.2 * torch.randn(8, 3, generator=generator).double()

    def cost(point: torch.Tensor) -> float:
        offset = point - poses[:, :3, 3]
        along = (offset * poses[:, :3, 2]).sum(dim=1, keepdim=True)
        return float((offset - along * poses[:, :3, 2]).square().sum())

    best = focus_point(poses)
    for step in torch.randn(20, 3, generator=generator).double() * 0.01:
        assert cost(best) < cost(best + step)


@pytest.mark.parametrize("degrees", [20, 90, 340])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_circle_is_found_from_arcs_in_any_orientation(degrees: float, seed: int) -> None:
    poses, world = turned(orbit(around(degrees, 12)), seed)
    circle = fit_circle(poses, first=3)
    torch.testing.assert_close(
        circle.centre, (world @ torch.tensor([0, 1.0, 0, 1]).double())[:3], atol=TOLERANCE, rtol=0
    )
    torch.testing.assert_close(circle.axis, world[:3, 1], atol=TOLERANCE, rtol=0)
    assert float(circle.radius) == pytest.approx(3.0, abs=TOLERANCE)


def test_up_is_found_from_a_short_shaky_arc() -> None:
    """Positions alone say little here: they lie nearly on a line, and move up and down as much as around."""
    generator = torch.Generator().manual_seed(2)
    angles = around(15, 10)
    poses = torch.cat(
        [
            orbit(angle[None], height=1 + 0.3 * float(h))
            for angle, h in zip(angles, torch.randn(10, generator=generator), strict=True)
        ]
    )
    assert float(up_direction(poses)[1]) > 0.99


def test_a_single_camera_holds_its_own_up() -> None:
    up = up_direction(orbit(torch.tensor([0.7])))
    camera_up = -orbit(torch.tensor([0.7]))[0, :3, 1]
    torch.testing.assert_close(up, camera_up, atol=1e-5, rtol=0)


def test_off_centre_full_circle_outweighs_the_focus() -> None:
    """Cameras on a circle around (0.5, ., 0) that look at the origin: the circle is where they are."""
    poses = orbit(around(350, 60), focus_height=1.0)
    position = poses[:, :3, 3] + torch.tensor([0.5, 0, 0]).double()
    target = torch.zeros(3).double()
    poses = look_at(position, target, torch.tensor([0.0, 1.0, 0.0]).double())
    circle = fit_circle(poses)
    torch.testing.assert_close(circle.centre, torch.tensor([0.5, 1.0, 0.0]).double(), atol=0.02, rtol=0)


@pytest.mark.parametrize("reverse", [False, True])
def test_cameras_go_on_from_the_first_in_the_same_direction(reverse: bool) -> None:
    poses = orbit(around(120, 13) * (-1 if reverse else 1))
    cameras = circle_cameras(poses, count=36, first=2)
    assert is_valid_pose(cameras).all()
    # Ten degrees apart on both: the trajectory passes through the given cameras from number 2 on.
    torch.testing.assert_close(cameras[:11], poses[2:], atol=TOLERANCE, rtol=0)


def test_the_whole_circle_is_covered_evenly() -> None:
    position = circle_cameras(orbit(around(90, 10)), count=8)[:, :3, 3]
    sides = (position - position.roll(1, dims=0)).norm(dim=1)
    torch.testing.assert_close(sides, torch.full_like(sides, 2 * 3.0 * math.sin(math.pi / 8)))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_cameras_held_on_their_side_stay_on_their_side(quarters: int) -> None:
    roll = torch.from_numpy(Rotation.from_euler("z", 90 * quarters, degrees=True).as_matrix())
    poses = orbit(around(200, 21)) @ pose_matrix(roll, torch.zeros(3).double())
    torch.testing.assert_close(circle_cameras(poses, count=36)[:21], poses, atol=TOLERANCE, rtol=0)


def test_interpolation_by_hand() -> None:
    quarter = torch.from_numpy(Rotation.from_euler("y", 90, degrees=True).as_matrix())
    poses = torch.stack([torch.eye(4).double(), pose_matrix(quarter, torch.tensor([2.0, 0, 0]).double())])
    middle = interpolate_poses(poses, 3)[1]
    torch.testing.assert_close(middle[:3, 3], torch.tensor([1.0, 0, 0]).double())
    eighth = torch.from_numpy(Rotation.from_euler("y", 45, degrees=True).as_matrix())
    torch.testing.assert_close(middle[:3, :3], eighth)


def test_interpolation_keeps_the_given_poses() -> None:
    poses = orbit(around(60, 4)).float()
    torch.testing.assert_close(interpolate_poses(poses, 10)[::3], poses)


def test_closed_and_open_trajectories_are_told_apart() -> None:
    angle = torch.linspace(0, 2 * math.pi, 13, dtype=torch.float64)
    position = torch.stack([3 * angle.sin(), torch.zeros(13), -3 * angle.cos()], dim=1)
    circle = look_at(position, torch.zeros(3).double(), torch.tensor([0.0, -1.0, 0.0]).double())
    assert comes_back(circle)
    assert comes_back(circle[:-1]), "one step is missing"
    assert not comes_back(circle[:10])
    assert comes_back(torch.cat([circle[:6], circle[:6].flip(0)])), "there and back"
    turning = circle.clone()
    turning[:, :3, 3] = 0
    assert comes_back(turning)
    assert not comes_back(turning[:10]), "stands still, but looks elsewhere"


def test_extrapolation_goes_on_with_the_mean_motion() -> None:
    """Turning by 5 degrees and moving by 0.2 to the side at each step, it goes on doing just that."""
    count = 9
    turn = Rotation.from_euler("y", 5 * np.arange(count)[:, None], degrees=True).as_matrix()
    position = torch.zeros(count, 3).double()
    position[:, 0] = 0.2 * torch.arange(count)
    poses = pose_matrix(torch.from_numpy(turn), position)
    torch.testing.assert_close(extrapolate_poses(poses[:4], 5), poses[4:])
    # One camera that shakes between two others is averaged out.
    shaken = poses.clone()
    shaken[1, :3, 3] += 0.3
    torch.testing.assert_close(extrapolate_poses(shaken[:4], 5)[:, :3, 3], poses[4:, :3, 3])
