"""Grids of cells in scenes."""

import math

import pytest
import torch

from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.geometry.rays import project_points
from dfm_lightning.geometry.scene_grids import CubeFrame, ObjectCube, SceneGrid, ViewFrustum
from dfm_lightning.types import Cameras, map_tensors

UP = (0.0, 1.0, 0.0)


def cameras_at(*positions: tuple[float, float, float], roll: float = 0.0) -> Cameras:
    """Cameras of one scene at places in the world, looking at its origin, the first turned about its axis."""
    up = torch.tensor(UP, dtype=torch.float64)
    poses = torch.stack([look_at(torch.tensor(p, dtype=torch.float64), up * 0, up) for p in positions])
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    poses[0] = poses[0] @ turn
    intrinsics = torch.tensor([[1.3, 0, 0.5], [0, 1.1, 0.45], [0, 0, 1]], dtype=torch.float64)
    cameras = build_cameras(poses, intrinsics.expand(len(poses), 3, 3), poses[0], 8, 8)
    return map_tensors(lambda tensor: tensor[None], cameras)


def in_scene(cameras: Cameras, world: list[list[float]]) -> torch.Tensor:
    """Points of the world in the scene's axes, those of the first camera."""
    to_scene = torch.linalg.inv(cameras.absolute_pose[0, 0])
    return (torch.tensor(world, dtype=torch.float64) @ to_scene[:3, :3].T + to_scene[:3, 3])[None]


@pytest.mark.parametrize(
    "grid",
    [ObjectCube(4.0, 2.0, 0.7, UP), ObjectCube(4.0, 2.0), ObjectCube(4.0, (3.0, 1.0, 2.0)), ViewFrustum(0.5, 9.0)],
)
def test_places_and_points_are_inverse(grid: SceneGrid) -> None:
    torch.manual_seed(0)
    frame = grid.frame(cameras_at((2.0, 1.5, 3.0), (0.0, 1.0, 4.0), roll=0.3))
    places = torch.rand(1, 500, 3, dtype=torch.float64) * 0.98 + 0.01
    torch.testing.assert_close(frame.places(frame.points(places)), places)


def test_an_upright_cube_stands_in_the_world_whatever_the_cameras_roll() -> None:
    # 5 away from the origin, so that the cube's middle is the world's origin.
    for roll in (0.0, 0.7):
        cameras = cameras_at((0.0, 3.0, 4.0), roll=roll)
        frame = ObjectCube(5.0, 2.0, 0.5, UP).frame(cameras)
        # The world's origin; one up; one towards the camera, horizontally; one to the camera's right.
        points = in_scene(cameras, [[0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
        expected = torch.tensor([[0, 0, 0], [0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=torch.float64)
        torch.testing.assert_close(frame.places(points)[0], 0.5 + expected / 2 * 0.5 / 2, atol=2e-3, rtol=0)


def test_without_a_known_up_the_cube_has_the_cameras_axes() -> None:
    frame = ObjectCube(5.0, 2.0, 0.5).frame(cameras_at((0.0, 3.0, 4.0), roll=0.7))
    points = torch.tensor([[[0, 0, 5], [1, 0, 5], [0, 1, 5], [0, 0, 6]]], dtype=torch.float64)
    expected = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(frame.places(points)[0], 0.5 + expected / 8, atol=2e-3, rtol=0)


def test_a_box_has_sides_to_the_right_downwards_and_ahead() -> None:
    # Upright in the world, while the camera looks down: the box' axes are not the camera's.
    cameras = cameras_at((0.0, 3.0, 4.0), roll=0.7)
    frame = ObjectCube(5.0, (4.0, 1.0, 2.0), 0.5, UP).frame(cameras)
    points = in_scene(cameras, [[0, 0, 0], [4, -1, -2], [-2, 0, 2]])
    expected = torch.tensor([[0, 0, 0], [1, 1, 1], [-0.5, 0, -1]], dtype=torch.float64)
    torch.testing.assert_close(frame.places(points)[0], 0.5 + expected / 4, atol=2e-3, rtol=0)


def test_a_camera_that_looks_straight_down_has_a_cube_all_the_same() -> None:
    frame = ObjectCube(5.0, 2.0, 0.5, UP).frame(cameras_at((0.0, 5.0, 1e-4)))
    assert isinstance(frame, CubeFrame)
    axes = frame.to_cube[0, :3, :3] * 2.0
    torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(axes) > 0


def test_all_of_space_has_a_place_and_the_contraction_is_as_published() -> None:
    frame = CubeFrame(torch.eye(4, dtype=torch.float64)[None], inner=0.5)
    points = torch.tensor([[[0.5, 0, 0], [1, 0, 0], [4, 2, 0], [0, -1e9, 0]]], dtype=torch.float64)
    # With an inner share of a half, twice the contracted place is (2 − 1/|u|) u/|u|: mip-NeRF 360, eq. 10.
    expected = torch.tensor([[0.5, 0, 0], [1, 0, 0], [2 - 1 / 4, (2 - 1 / 4) / 2, 0], [0, -2, 0]])
    torch.testing.assert_close((frame.places(points)[0] * 2 - 1) * 2, expected.double())


def test_a_frustums_axes_are_image_position_and_inverse_depth() -> None:
    cameras = cameras_at((0.0, 3.0, 4.0))
    frame = ViewFrustum(0.5, 8.0, margin=2.0).frame(cameras)
    points = torch.tensor([[[0.1, 0.2, 0.5], [0.3, -0.4, 2.0], [1.0, 1.0, 8.0]]], dtype=torch.float64)
    places = frame.places(points)[0]
    image = project_points(cameras.intrinsics[:, :1], points[:, None])[0, 0]
    torch.testing.assert_close(places[:, :2], (image - 0.5) / 2 + 0.5)
    torch.testing.assert_close(places[:, 2], torch.tensor([0, (2 - 0.5) / (2 - 0.125), 1], dtype=torch.float64))


def test_what_lies_behind_a_frustums_camera_is_at_its_side() -> None:
    frame = ViewFrustum(0.5, 8.0).frame(cameras_at((0.0, 3.0, 4.0)))
    places = frame.places(torch.tensor([[[9.0, -9.0, -5.0]]]).double())
    assert torch.equal(places, torch.tensor([[[1.0, 0.0, 0.0]]]).double())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ObjectCube(0.0, 1.0),
        lambda: ObjectCube(1.0, -1.0),
        lambda: ObjectCube(1.0, (1.0, 0.0, 1.0)),
        lambda: ObjectCube(1.0, 1.0, 1.0),
        lambda: ObjectCube(1.0, 1.0, 0.5, (0.0, 0.0, 0.0)),
        lambda: ViewFrustum(2.0, 1.0),
        lambda: ViewFrustum(1.0, 2.0, 0.0),
    ],
)
def test_impossible_grids_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"distance|half|inner|up|near|far|margin"):
        make()
