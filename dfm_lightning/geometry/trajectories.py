"""Camera trajectories around the point that given cameras look at: focus point, fitted circle, interpolation.

The world's up direction is estimated from the cameras.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from dfm_lightning.geometry.cameras import look_at, pose_matrix

# Weight of the condition that the circle is centred on the axis through the focus point, relative to one camera's
# distance from the circle: negligible for a full circle, decisive for a short arc, which hardly determines its
# centre.
_CENTRE_WEIGHT = 0.05
# Weights, relative to the condition that a level axis is perpendicular to up, of two others: that all positions
# are equally high, which short arcs at varying height contradict, and that cameras are held upright, which decides
# if nothing else does.
_PLANE_WEIGHT = 0.1
_UPRIGHT_WEIGHT = 1e-6
# Largest distance, in longest steps, from the last pose of a closed trajectory to its first.
_SLACK = 1.5


class Circle(NamedTuple):
    """A circle on which cameras stand, and the point they look at.

    `axis` is a unit vector that points upwards, `start` a unit vector perpendicular to it towards the camera at
    angle 0; angles increase in the order of the cameras that the circle was fitted to.
    """

    centre: Float[Tensor, "3"]
    axis: Float[Tensor, "3"]
    start: Float[Tensor, "3"]
    sideways: Float[Tensor, "3"]
    radius: Float[Tensor, ""]
    focus: Float[Tensor, "3"]


def focus_point(camera_to_world: Float[Tensor, "v 4 4"]) -> Float[Tensor, "3"]:
    """Return the point nearest to all optical axes in the least-squares sense.

    If the axes do not determine it (one camera, parallel axes), return the nearest such point to the cameras'
    mean.
    """
    pose = camera_to_world.double()
    position, forward = pose[:, :3, 3], pose[:, :3, 2]
    mean = position.mean(dim=0)
    # Projections onto the planes perpendicular to the axes.
    projection = torch.eye(3, dtype=torch.float64, device=pose.device) - forward[:, :, None] * forward[:, None, :]
    offset = (projection @ (position - mean)[:, :, None]).sum(dim=0)
    point = mean + (torch.linalg.pinv(projection.sum(dim=0), rtol=1e-9) @ offset)[:, 0]
    return point.to(camera_to_world)


def up_direction(camera_to_world: Float[Tensor, "v 4 4"]) -> Float[Tensor, "3"]:
    """Return the unit vector around which the cameras turn, pointing to their upper side.

    It is the direction most perpendicular to the axis that the cameras keep level (their x axis, or their y axis
    if they were held on their side) and to the plane of their positions.
    """
    pose = camera_to_world.double()
    away = pose[:, :3, 3] - focus_point(pose)
    spread = _second_moment(away - away.mean(dim=0)) / away.square().sum(dim=1).mean().clamp(min=1e-12)
    level = min((_second_moment(pose[:, :3, column]) for column in (0, 1)), key=_smallest_eigenvalue)
    upright = -torch.nn.functional.normalize(pose[:, :3, 1].mean(dim=0), dim=0)
    form = level + _PLANE_WEIGHT * spread - _UPRIGHT_WEIGHT * upright[:, None] * upright[None, :]
    axis = torch.linalg.eigh(form).eigenvectors[:, 0]
    return (axis if axis @ upright >= 0 else -axis).to(camera_to_world)


def fit_circle(camera_to_world: Float[Tensor, "v 4 4"], first: int = 0) -> Circle:
    """Fit the circle nearest to the cameras' positions, in the least-squares sense.

    Angle 0 is at camera `first`. Its plane is perpendicular to `up_direction`. If the arc is too short to
    determine the centre, the centre lies above or below the focus point.
    """
    pose = camera_to_world.double()
    axis, focus = up_direction(pose), focus_point(pose)
    start = _perpendicular(pose[first, :3, 3] - focus, axis)
    sideways = torch.linalg.cross(axis, start)
    offset = pose[:, :3, 3] - focus
    height = (offset @ axis).mean()
    flat = torch.stack([offset @ start, offset @ sideways], dim=1).cpu().numpy()
    x, y, radius = _fit_flat_circle(flat)
    centre = focus + height * axis + x * start + y * sideways
    if _turns_clockwise(flat - np.array([x, y])):
        sideways = -sideways
    # Angle 0 at the first camera as seen from the fitted centre.
    start = _perpendicular(pose[first, :3, 3] - centre, axis)
    sideways = torch.linalg.cross(axis, start) * torch.sign(torch.linalg.cross(axis, start) @ sideways)
    vectors = (centre, axis, start, sideways, torch.tensor(radius, dtype=torch.float64, device=pose.device), focus)
    return Circle(*(vector.to(camera_to_world) for vector in vectors))


def circle_cameras(
    camera_to_world: Float[Tensor, "v 4 4"], count: int, first: int = 0
) -> Float[Tensor, "{count} 4 4"]:
    """Place cameras evenly around the whole circle fitted to the given ones, all looking at their focus point.

    The first is at the angle of camera `first`; they continue in the order of the given cameras, rolled by the
    quarter turn nearest to the roll of camera `first`.
    """
    circle = fit_circle(camera_to_world, first)
    angle = torch.arange(count).to(camera_to_world) / count * 2 * np.pi
    outward = angle.cos()[:, None] * circle.start + angle.sin()[:, None] * circle.sideways
    level = look_at(circle.centre + circle.radius * outward, circle.focus, circle.axis)
    return level @ _quarter_roll(camera_to_world[first], circle)


def interpolate_poses(camera_to_world: Float[Tensor, "v 4 4"], count: int) -> Float[Tensor, "{count} 4 4"]:
    """Interpolate `count` poses from the first to the last of at least two: linear in position, spherical in
    rotation.

    Every given pose counts; the time between neighbours is the same.
    """
    pose = camera_to_world.detach().double().cpu().numpy()
    given = np.arange(len(pose))
    wanted = np.linspace(0, len(pose) - 1, count)
    rotation = Slerp(given, Rotation.from_matrix(pose[:, :3, :3]))(wanted).as_matrix()
    position = np.stack([np.interp(wanted, given, pose[:, axis, 3]) for axis in range(3)], axis=1)
    return pose_matrix(torch.from_numpy(rotation), torch.from_numpy(position)).to(camera_to_world)


def extrapolate_poses(camera_to_world: Float[Tensor, "v 4 4"], count: int) -> Float[Tensor, "{count} 4 4"]:
    """Continue after the last of at least two poses, for `count` poses, with the mean motion of the given ones.

    The motion from one pose to the next is a translation in the world and a rotation in the camera.
    """
    pose = camera_to_world.detach().double().cpu().numpy()
    steps = np.arange(1, count + 1)[:, None]
    rotation = Rotation.from_matrix(pose[:, :3, :3])
    turn = (rotation[:-1].inv() * rotation[1:]).as_rotvec().mean(axis=0)
    position = pose[-1, :3, 3] + steps * (pose[-1, :3, 3] - pose[0, :3, 3]) / (len(pose) - 1)
    turned = (rotation[-1] * Rotation.from_rotvec(steps * turn)).as_matrix()
    return pose_matrix(torch.from_numpy(turned), torch.from_numpy(position)).to(camera_to_world)


def comes_back(camera_to_world: Float[Tensor, "v 4 4"]) -> bool:
    """Tell whether a trajectory ends where it began, or one step before that.

    A step leads from one pose to the next: the distance of their positions, the angle between their axes.
    """
    pose = camera_to_world.detach().double()
    moved = _changes(pose, pose.roll(-1, 0))
    return bool((moved[-1] <= _SLACK * moved[:-1].amax(dim=0) + 1e-9).all())


def _changes(first: Float[Tensor, "v 4 4"], second: Float[Tensor, "v 4 4"]) -> Float[Tensor, "v 2"]:
    """Return for each pair of poses the distance of their positions, and of their rotations (Frobenius norm)."""
    difference = second[:, :3] - first[:, :3]
    return torch.stack([difference[..., 3].norm(dim=1), difference[..., :3].flatten(1).norm(dim=1)], dim=1)


def _second_moment(vectors: Float[Tensor, "v 3"]) -> Float[Tensor, "3 3"]:
    return vectors.T @ vectors / len(vectors)


def _smallest_eigenvalue(form: Float[Tensor, "3 3"]) -> float:
    return float(torch.linalg.eigvalsh(form)[0])


def _perpendicular(vector: Float[Tensor, "3"], axis: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """Return the unit vector along the part of `vector` perpendicular to the axis; any perpendicular one if there
    is none.
    """
    candidates = torch.cat([vector[None], torch.eye(3, dtype=vector.dtype, device=vector.device)])
    flat = candidates - (candidates @ axis)[:, None] * axis
    length = flat.norm(dim=1)
    chosen = 0 if length[0] > 1e-9 else int(length[1:].argmax()) + 1
    return flat[chosen] / length[chosen]


def _fit_flat_circle(points: Float[np.ndarray, "v 2"]) -> tuple[float, float, float]:
    """Fit centre and radius of the circle nearest to points in a plane whose origin is the likely centre."""

    def errors(circle: np.ndarray) -> np.ndarray:
        distance = np.hypot(points[:, 0] - circle[0], points[:, 1] - circle[1])
        prior = np.sqrt(_CENTRE_WEIGHT) * circle[:2]
        return np.concatenate([distance - circle[2], prior])

    start = np.array([0.0, 0.0, np.hypot(points[:, 0], points[:, 1]).mean()])
    x, y, radius = least_squares(errors, start).x
    return float(x), float(y), float(abs(radius))


def _turns_clockwise(points: Float[np.ndarray, "v 2"]) -> bool:
    """Tell whether points taken in order go around the origin clockwise on the whole."""
    angle = np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
    return bool(angle[-1] < angle[0])


def _quarter_roll(camera_to_world: Float[Tensor, "4 4"], circle: Circle) -> Float[Tensor, "4 4"]:
    """Return the turn about the optical axis, in whole quarter turns, from the given camera to one held level."""
    level = look_at(camera_to_world[:3, 3], circle.focus, circle.axis)
    right = level[:3, :3].T @ camera_to_world[:3, 0]
    quarters = round(float(torch.atan2(right[1], right[0])) / (np.pi / 2))
    rotation = Rotation.from_euler("z", quarters * np.pi / 2).as_matrix()
    return pose_matrix(torch.from_numpy(rotation), torch.zeros(3, dtype=torch.float64)).to(camera_to_world)
