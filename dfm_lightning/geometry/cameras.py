"""Cameras: conversions from and to other conventions, relative poses, pixel positions.

Inside the project: OpenCV axes (x right, y down, z forward), camera-to-world 4×4 matrices, intrinsics normalised
by the image's width and height with the origin at the image's corner. Everything else is converted at the edges.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.types import Cameras

NdcFormat = Literal["ndc_isotropic", "ndc_norm_image_bounds"]

# A rotation read from a file is accepted if R Rᵀ differs from the identity by no more than this.
ROTATION_TOLERANCE = 1e-2
# No camera is farther from the origin than this: coordinates of maps reach ten million metres.
FARTHEST = 1e8
# Focal length in units of the picture's longer side, from a fisheye of the whole sphere to the largest telescopes.
FOCAL_RANGE = (1e-2, 1e3)
# Beyond this multiple of a picture's side, its principal point is no place.
_FARTHEST_CENTRE = 1e3


# --- poses ------------------------------------------------------------------------------------------------


def pose_matrix(rotation: Float[Tensor, "*n 3 3"], translation: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 4 4"]:
    """Build the 4×4 matrix [R | t] with the last row 0 0 0 1."""
    pose = torch.zeros((*rotation.shape[:-2], 4, 4), dtype=rotation.dtype, device=rotation.device)
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1
    return pose


def invert_pose(pose: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
    """Invert rigid motions: camera-to-world from world-to-camera and back."""
    rotation = pose[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ pose[..., :3, 3:])[..., 0]
    return pose_matrix(rotation, translation)


def relative_poses(
    camera_to_world: Float[Tensor, "*n 4 4"], reference: Float[Tensor, "4 4"]
) -> Float[Tensor, "*n 4 4"]:
    """Express camera-to-world poses in the frame of the reference camera."""
    return invert_pose(reference) @ camera_to_world


def scale_translations(pose: Float[Tensor, "*n 4 4"], factor: float | Tensor) -> Float[Tensor, "*n 4 4"]:
    """Multiply translations by `factor`: the same poses in units of length that are `factor` times smaller."""
    scaled = pose.clone()
    scaled[..., :3, 3] *= factor
    return scaled


def look_at(
    position: Float[Tensor, "*#n 3"], target: Float[Tensor, "*#n 3"], up: Float[Tensor, "*#n 3"]
) -> Float[Tensor, "*n 4 4"]:
    """Build camera-to-world poses of level cameras at `position` that see `target` in the middle of their image.

    `up` need not be normalised nor perpendicular to the viewing direction, only not parallel to it. The arguments
    are broadcast.
    """
    position, target, up = torch.broadcast_tensors(position, target, up)
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    return pose_matrix(torch.stack([right, down, forward], dim=-1), position)


def is_valid_pose(pose: Float[Tensor, "*n 4 4"]) -> Bool[Tensor, "*n"]:
    """Tell whether each matrix is finite, its upper left part a rotation, up to the rounding of numbers in files,
    and its position no farther from the origin than `FARTHEST`.
    """
    rotation = torch.nan_to_num(pose[..., :3, :3], nan=0.0, posinf=0.0, neginf=0.0)
    error = (rotation @ rotation.transpose(-1, -2) - torch.eye(3, dtype=pose.dtype, device=pose.device)).abs()
    orthonormal = error.amax(dim=(-1, -2)) < ROTATION_TOLERANCE
    near = (pose[..., :3, 3].abs() <= FARTHEST).all(dim=-1)
    return pose.isfinite().all(dim=-1).all(dim=-1) & orthonormal & (torch.linalg.det(rotation) > 0) & near


def is_valid_intrinsics(intrinsics: Float[Tensor, "*n 3 3"]) -> Bool[Tensor, "*n"]:
    """Tell whether each matrix of normalised intrinsics can belong to a camera.

    It is finite, its longer focal length in `FOCAL_RANGE`, the other above zero, its principal point not far away.
    """
    focal, centre = intrinsics[..., [0, 1], [0, 1]], intrinsics[..., :2, 2]
    longer, shorter = focal.amax(dim=-1), focal.amin(dim=-1)
    possible = (shorter > 0) & (longer >= FOCAL_RANGE[0]) & (longer <= FOCAL_RANGE[1])
    return (
        intrinsics.isfinite().all(dim=-1).all(dim=-1) & possible & (centre.abs() <= _FARTHEST_CENTRE).all(dim=-1)
    )


# --- intrinsics and pixels --------------------------------------------------------------------------------


def intrinsics_matrix(
    focal: Float[Tensor, "*n 2"], principal_point: Float[Tensor, "*n 2"]
) -> Float[Tensor, "*n 3 3"]:
    """Build the matrix with (fx, fy) on its diagonal and (cx, cy) in its last column."""
    matrix = torch.zeros((*focal.shape[:-1], 3, 3), dtype=focal.dtype, device=focal.device)
    matrix[..., 0, 0] = focal[..., 0]
    matrix[..., 1, 1] = focal[..., 1]
    matrix[..., :2, 2] = principal_point
    matrix[..., 2, 2] = 1
    return matrix


def normalise_intrinsics(intrinsics: Float[Tensor, "*n 3 3"], width: int, height: int) -> Float[Tensor, "*n 3 3"]:
    """Convert intrinsics in pixels (origin at the image's corner, first pixel centre at 0.5) to fractions of the
    image.
    """
    size = torch.tensor([width, height, 1.0], dtype=intrinsics.dtype, device=intrinsics.device)
    return intrinsics / size[:, None]


def intrinsics_in_pixels(intrinsics: Float[Tensor, "*n 3 3"], width: int, height: int) -> Float[Tensor, "*n 3 3"]:
    """Convert normalised intrinsics to pixels of an image of the given size; inverts `normalise_intrinsics`."""
    size = torch.tensor([width, height, 1.0], dtype=intrinsics.dtype, device=intrinsics.device)
    return intrinsics * size[:, None]


def pixel_grid(height: int, width: int) -> Float[Tensor, "{height} {width} 2"]:
    """Return the positions (x, y) of all pixel centres, (i + ½)/N."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)


def build_cameras(
    absolute_pose: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    reference: Float[Tensor, "4 4"],
    height: int,
    width: int,
) -> Cameras:
    """Build `Cameras` that observe all pixels of an image; `reference` is the first context camera's absolute
    pose.
    """
    pixels = pixel_grid(height, width).to(absolute_pose)
    return Cameras(
        camera_to_world=relative_poses(absolute_pose, reference),
        intrinsics=intrinsics,
        absolute_pose=absolute_pose,
        pixels=pixels.expand(len(absolute_pose), height, width, 2),
    )


# --- PyTorch3D (Co3D) -------------------------------------------------------------------------------------


def pytorch3d_to_opencv(
    rotation: Float[Tensor, "*n 3 3"], translation: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n 4 4"]:
    """Convert PyTorch3D's R and T to camera-to-world poses.

    PyTorch3D multiplies row vectors, X_camera = X_world R + T, with x to the left, y up and z forward.
    """
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=rotation.dtype, device=rotation.device)
    return invert_pose(pose_matrix(flip[:, None] * rotation.transpose(-1, -2), flip * translation))


def opencv_to_pytorch3d(
    camera_to_world: Float[Tensor, "*n 4 4"],
) -> tuple[Float[Tensor, "*n 3 3"], Float[Tensor, "*n 3"]]:
    """Convert camera-to-world poses to PyTorch3D's R and T; inverts `pytorch3d_to_opencv`."""
    world_to_camera = invert_pose(camera_to_world)
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=camera_to_world.dtype, device=camera_to_world.device)
    return (flip[:, None] * world_to_camera[..., :3, :3]).transpose(-1, -2), flip * world_to_camera[..., :3, 3]


def pytorch3d_to_normalised_intrinsics(
    focal: Float[Tensor, "*n 2"],
    principal_point: Float[Tensor, "*n 2"],
    width: int,
    height: int,
    ndc_format: NdcFormat,
) -> Float[Tensor, "*n 3 3"]:
    """Convert PyTorch3D's focal length and principal point, in either of its NDC formats, to normalised
    intrinsics.

    "ndc_isotropic" measures both axes in halves of the shorter side, "ndc_norm_image_bounds" (Co3D's default) each
    axis in halves of its own side. The principal point is measured from the centre, to the left and up.
    """
    unit = _ndc_unit(width, height, ndc_format).to(focal)
    return intrinsics_matrix(focal * unit, 0.5 - principal_point * unit)


def normalised_to_pytorch3d_intrinsics(
    intrinsics: Float[Tensor, "*n 3 3"], width: int, height: int, ndc_format: NdcFormat
) -> tuple[Float[Tensor, "*n 2"], Float[Tensor, "*n 2"]]:
    """Convert to PyTorch3D's focal length and principal point; inverts `pytorch3d_to_normalised_intrinsics`."""
    unit = _ndc_unit(width, height, ndc_format).to(intrinsics)
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], dim=-1)
    return focal / unit, (0.5 - intrinsics[..., :2, 2]) / unit


def _ndc_unit(width: int, height: int, ndc_format: NdcFormat) -> Float[Tensor, "2"]:
    """Return one NDC unit of x and y in fractions of the image's width and height."""
    if ndc_format == "ndc_norm_image_bounds":
        return torch.tensor([0.5, 0.5])
    half = min(width, height) / 2
    return torch.tensor([half / width, half / height])


# --- OpenGL, RealEstate10k, COLMAP ------------------------------------------------------------------------


def flip_opengl_opencv(camera_to_world: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
    """Convert camera-to-world poses from OpenGL axes (NeRF, transforms.json: y up, z backward) to OpenCV's, or
    back.
    """
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=camera_to_world.dtype, device=camera_to_world.device)
    return camera_to_world * flip


def realestate10k_to_opencv(
    numbers: Float[Tensor, "*n 18"],
) -> tuple[Float[Tensor, "*n 4 4"], Float[Tensor, "*n 3 3"]]:
    """Convert RealEstate10k's lines, without timestamps, to camera-to-world poses and normalised intrinsics.

    A line is fx fy cx cy k1 k2 and the world-to-camera matrix [R | t] row by row; k1 and k2 are not used.
    """
    world_to_camera = numbers[..., 6:].reshape(*numbers.shape[:-1], 3, 4)
    pose = pose_matrix(world_to_camera[..., :3], world_to_camera[..., 3])
    return invert_pose(pose), intrinsics_matrix(numbers[..., 0:2], numbers[..., 2:4])


def opencv_to_realestate10k(
    camera_to_world: Float[Tensor, "*n 4 4"], intrinsics: Float[Tensor, "*n 3 3"]
) -> Float[Tensor, "*n 18"]:
    """Convert to RealEstate10k's numbers, without timestamps; inverts `realestate10k_to_opencv`."""
    world_to_camera = invert_pose(camera_to_world)[..., :3, :].flatten(-2)
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], dim=-1)
    distortion = torch.zeros_like(focal)
    return torch.cat([focal, intrinsics[..., :2, 2], distortion, world_to_camera], dim=-1)


def quaternion_to_rotation(quaternion: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Convert quaternions (w, x, y, z), as COLMAP writes them, normalised or not, to rotation matrices."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(dim=-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def colmap_to_opencv(
    quaternion: Float[Tensor, "*n 4"], translation: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n 4 4"]:
    """Convert COLMAP's world-to-camera quaternion (w, x, y, z) and translation to camera-to-world poses."""
    return invert_pose(pose_matrix(quaternion_to_rotation(quaternion), translation))
