"""Camera conversions against hand-computed cases, other libraries and their inverses."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dfm_lightning.geometry.cameras import (
    NdcFormat,
    build_cameras,
    colmap_to_opencv,
    flip_opengl_opencv,
    intrinsics_in_pixels,
    intrinsics_matrix,
    invert_pose,
    is_valid_intrinsics,
    is_valid_pose,
    look_at,
    normalise_intrinsics,
    normalised_to_pytorch3d_intrinsics,
    opencv_to_pytorch3d,
    opencv_to_realestate10k,
    pixel_grid,
    pose_matrix,
    pytorch3d_to_normalised_intrinsics,
    pytorch3d_to_opencv,
    quaternion_to_rotation,
    realestate10k_to_opencv,
    relative_poses,
    scale_translations,
)


def random_poses(count: int, seed: int = 0) -> torch.Tensor:
    rotations = Rotation.random(count, random_state=seed).as_matrix()
    generator = torch.Generator().manual_seed(seed)
    translations = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return pose_matrix(torch.from_numpy(rotations), translations)


def test_inverse_is_the_matrix_inverse() -> None:
    poses = random_poses(5)
    torch.testing.assert_close(invert_pose(poses), torch.linalg.inv(poses))


def test_relative_pose_of_the_reference_is_the_identity() -> None:
    poses = random_poses(3)
    relative = relative_poses(poses, poses[1])
    torch.testing.assert_close(relative[1], torch.eye(4, dtype=torch.float64))
    # A point given in camera 2, seen from camera 1, by either world.
    point = torch.tensor([0.3, -0.2, 2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.inv(poses[1]) @ poses[2] @ point, relative[2] @ point)


def test_look_at_by_hand() -> None:
    # At z = -2 looking to the origin, y up: the right hand points along -x of the world.
    pose = look_at(torch.tensor([0.0, 0.0, -2.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    expected = torch.tensor([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1]])
    torch.testing.assert_close(pose, expected)
    assert is_valid_pose(pose)


@pytest.mark.parametrize(
    ("image_size", "ndc_format", "expected"),
    [
        # focal 2, principal point (0.1, -0.2), image 400 wide and 200 high.
        ((400, 200), "ndc_isotropic", [[200, 0, 190], [0, 200, 120], [0, 0, 1]]),
        ((400, 200), "ndc_norm_image_bounds", [[400, 0, 180], [0, 200, 120], [0, 0, 1]]),
    ],
)
def test_pytorch3d_intrinsics_by_hand(
    image_size: tuple[int, int], ndc_format: NdcFormat, expected: list[list[float]]
) -> None:
    focal, principal = torch.tensor([2.0, 2.0]), torch.tensor([0.1, -0.2])
    normalised = pytorch3d_to_normalised_intrinsics(focal, principal, *image_size, ndc_format)
    torch.testing.assert_close(intrinsics_in_pixels(normalised, *image_size), torch.tensor(expected).float())
    back = normalised_to_pytorch3d_intrinsics(normalised, *image_size, ndc_format)
    torch.testing.assert_close(back, (focal, principal))


def test_pytorch3d_projection_by_its_own_rules() -> None:
    """A point projected as PyTorch3D does (row vectors, NDC to the left and up) lands on the same pixel."""
    generator = torch.Generator().manual_seed(1)
    rotation = random_poses(1, seed=3)[0, :3, :3]
    translation = torch.tensor([0.2, -0.1, 4.0], dtype=torch.float64)
    focal = torch.tensor([2.5, 2.4], dtype=torch.float64)
    principal = torch.tensor([0.05, -0.03], dtype=torch.float64)
    points = torch.randn(20, 3, generator=generator, dtype=torch.float64) * 0.5
    width, height = 300, 200

    in_camera = points @ rotation + translation
    ndc = focal * in_camera[:, :2] / in_camera[:, 2:] + principal
    half = min(width, height) / 2
    expected = torch.stack([width / 2 - ndc[:, 0] * half, height / 2 - ndc[:, 1] * half], dim=1)

    world_to_camera = invert_pose(pytorch3d_to_opencv(rotation, translation))
    opencv = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    intrinsics = pytorch3d_to_normalised_intrinsics(focal, principal, width, height, "ndc_isotropic")
    homogeneous = opencv @ intrinsics_in_pixels(intrinsics, width, height).T
    torch.testing.assert_close(homogeneous[:, :2] / homogeneous[:, 2:], expected)


def test_pytorch3d_poses_there_and_back() -> None:
    poses = random_poses(4)
    torch.testing.assert_close(pytorch3d_to_opencv(*opencv_to_pytorch3d(poses)), poses)


def test_opengl_by_hand_and_back() -> None:
    # An OpenGL camera at the world's origin without rotation looks along -z with y up.
    pose = flip_opengl_opencv(torch.eye(4))
    forward, down = pose[:3, 2], pose[:3, 1]
    torch.testing.assert_close(forward, torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(down, torch.tensor([0.0, -1.0, 0.0]))
    poses = random_poses(3)
    torch.testing.assert_close(flip_opengl_opencv(flip_opengl_opencv(poses)), poses)


def test_realestate10k_line_by_hand_and_back() -> None:
    # World-to-camera: no rotation, t = (1, 2, 3), so the camera stands at -t.
    numbers = torch.tensor([0.5, 0.9, 0.5, 0.5, 0, 0, 1, 0, 0, 1, 0, 1, 0, 2, 0, 0, 1, 3.0])
    pose, intrinsics = realestate10k_to_opencv(numbers)
    torch.testing.assert_close(pose[:3, 3], torch.tensor([-1.0, -2.0, -3.0]))
    torch.testing.assert_close(intrinsics, torch.tensor([[0.5, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]]))
    torch.testing.assert_close(opencv_to_realestate10k(pose, intrinsics), numbers)


def test_quaternions_against_scipy() -> None:
    rotations = Rotation.random(10, random_state=5)
    wxyz = torch.from_numpy(np.roll(rotations.as_quat(), 1, axis=1))
    torch.testing.assert_close(quaternion_to_rotation(wxyz * 3), torch.from_numpy(rotations.as_matrix()))


def test_colmap_camera_by_hand() -> None:
    # A quarter turn about z, then t = (1, 0, 0): the centre is -Rᵀ t = (0, 1, 0).
    half = math.sqrt(0.5)
    pose = colmap_to_opencv(torch.tensor([half, 0, 0, half]), torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(pose[:3, 3], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_intrinsics_normalised_by_width_and_height() -> None:
    pixels = intrinsics_matrix(torch.tensor([100.0, 80.0]), torch.tensor([60.0, 20.0]))
    expected = torch.tensor([[0.5, 0, 0.3], [0, 1.6, 0.4], [0, 0, 1]])
    torch.testing.assert_close(normalise_intrinsics(pixels, 200, 50), expected)


def test_pixel_centres() -> None:
    grid = pixel_grid(2, 4)
    torch.testing.assert_close(grid[1, 0], torch.tensor([0.125, 0.75]))
    torch.testing.assert_close(grid[0, 3], torch.tensor([0.875, 0.25]))


def test_built_cameras_are_relative_to_the_reference() -> None:
    poses = random_poses(2)
    intrinsics = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    cameras = build_cameras(poses, intrinsics, poses[0], height=3, width=5)
    assert cameras.pixels.shape == (2, 3, 5, 2)
    torch.testing.assert_close(cameras.camera_to_world[0], torch.eye(4, dtype=torch.float64))
    assert torch.equal(cameras.absolute_pose, poses)


def test_translations_scale_alone() -> None:
    poses = random_poses(2)
    scaled = scale_translations(poses, 3.0)
    torch.testing.assert_close(scaled[:, :3, 3], poses[:, :3, 3] * 3)
    torch.testing.assert_close(scaled[:, :3, :3], poses[:, :3, :3])


def test_invalid_poses_are_found() -> None:
    poses = random_poses(5).float()
    poses[1, 0, 3] = math.nan
    poses[2, :3, :3] = 0
    poses[3, :3, 0] *= -1
    poses[4, 0, 0] = math.inf
    assert is_valid_pose(poses).tolist() == [True, False, False, False, False]


def test_rotations_may_be_rounded_but_not_scaled_or_sheared() -> None:
    """R Rᵀ of a rotation times 1 + e is 1 + 2 e; three decimals in a file are off by less."""
    poses = random_poses(20, seed=6)
    rounded = poses.clone()
    rounded[:, :3, :3] = (rounded[:, :3, :3] * 1000).round() / 1000
    assert is_valid_pose(rounded).all()
    scaled, sheared = poses.clone(), poses.clone()
    scaled[:, :3, :3] *= 1.01
    sheared[:, :3, :3] = sheared[:, :3, :3] @ torch.tensor([[1, 0.03, 0], [0, 1, 0], [0, 0, 1]]).to(poses)
    assert not is_valid_pose(scaled).any()
    assert not is_valid_pose(sheared).any()


@pytest.mark.parametrize(
    ("focal", "centre", "valid"),
    [
        ((1.2, 0.9), (0.5, 0.5), True),
        ((0.01, 0.001), (0.5, 0.5), True),  # the longer counts, the other need only be above zero
        ((1000.0, 1.0), (-900.0, 900.0), True),
        ((0.009, 0.009), (0.5, 0.5), False),
        ((1.0, 1001.0), (0.5, 0.5), False),
        ((1.2, 0.0), (0.5, 0.5), False),
        ((-1.2, 0.9), (0.5, 0.5), False),
        ((1.2, 0.9), (0.5, -1001.0), False),
        ((1.2, 0.9), (math.nan, 0.5), False),
        ((math.inf, 0.9), (0.5, 0.5), False),
    ],
)
def test_invalid_intrinsics_are_found(
    focal: tuple[float, float], centre: tuple[float, float], valid: bool
) -> None:
    given = intrinsics_matrix(torch.tensor([focal, (1.0, 1.0)]), torch.tensor([centre, (0.5, 0.5)]))
    assert is_valid_intrinsics(given).tolist() == [valid, True]
    skewed = given.clone()
    skewed[1, 0, 1] = math.nan
    assert is_valid_intrinsics(skewed).tolist() == [valid, False]
