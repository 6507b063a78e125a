"""The circle that a scene is looked at from while it is distilled, and cameras around it (SparseFusion, A.3)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.geometry.cameras import look_at
from dfm_lightning.geometry.trajectories import focus_point, up_direction

# The mean of a horizontal ring's positions along its normal, beyond which SparseFusion turns the normal around.
_TURNED_BEYOND = 1.5
# A focus as near to its cameras as this, in scene units, is none.
_NO_FOCUS = 1e-6
# Two level cameras whose x axes enclose less than this determine no direction that is up.
_PARALLEL = 0.1


class CameraRing(NamedTuple):
    """A circle of camera positions and the point all of them look at.

    Position at angle a: centre + radius (cos a · start + sin a · sideways). `up` is what cameras hold up.
    """

    centre: Float[Tensor, "3"]
    radius: Float[Tensor, ""]
    start: Float[Tensor, "3"]
    sideways: Float[Tensor, "3"]
    up: Float[Tensor, "3"]
    focus: Float[Tensor, "3"]

    def positions(self, angles: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """Give the positions at angles in radians."""
        along = angles.cos()[:, None] * self.start + angles.sin()[:, None] * self.sideways
        return self.centre + self.radius * along

    def raised(self, positions: Float[Tensor, "n 3"], angles: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """Turn positions around the focus towards the ring's axis by angles in radians; distances to it are kept.

        The jitter that the thesis means: of the angle between the way from the focus to a camera and the axis.
        """
        away = positions - self.focus
        axis = F.normalize(torch.linalg.cross(away, self.up.expand_as(away)), dim=-1)
        turned = angles.cos()[:, None] * away + angles.sin()[:, None] * torch.linalg.cross(axis, away)
        return self.focus + turned

    def poses(self, positions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4 4"]:
        """Give camera-to-world poses at positions, level, that look at the focus."""
        return look_at(positions, self.focus, self.up)


def level_ring(camera_to_world: Float[Tensor, "v 4 4"], origin: Float[Tensor, "3"] | None = None) -> CameraRing:
    """Fit a ring to few cameras: level with what they hold up, around what they look at.

    Works from one camera on. One alone, or parallel ones, look at the point of their (mean) axis nearest to
    `origin`.

    Args:
        camera_to_world: the cameras' poses.
        origin: about where the object is known to be, the world's origin in Co3D; (0, 0, 0) if none.
    """
    positions, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    focus, up = focus_point(camera_to_world), _up(camera_to_world)
    mean = positions.mean(dim=0)
    if bool(((positions - focus).norm(dim=-1) < _NO_FOCUS).any()):
        origin = torch.zeros_like(focus) if origin is None else origin
        axis = F.normalize(forward.mean(dim=0), dim=0)
        focus = mean + ((origin - mean) @ axis).clamp(min=_NO_FOCUS) * axis
    away = positions - focus
    height = (away @ up).mean()
    flat = away - (away @ up)[:, None] * up
    # A camera on the axis itself has no direction: any will do.
    start = flat[0] if flat[0].norm() > _NO_FOCUS else torch.linalg.svd(up[None])[2][1]
    start = F.normalize(start, dim=0)
    radius = flat.norm(dim=1).mean().clamp(min=_NO_FOCUS)
    return CameraRing(focus + height * up, radius, start, torch.linalg.cross(up, start), up, focus)


def _up(camera_to_world: Float[Tensor, "v 4 4"]) -> Float[Tensor, "3"]:
    """Find the direction that is up: two cameras are taken to be level, one to be held upright."""
    held = F.normalize(-camera_to_world[:, :3, 1].mean(dim=0), dim=0)
    if len(camera_to_world) > 2:
        return up_direction(camera_to_world)
    across = torch.linalg.cross(camera_to_world[0, :3, 0], camera_to_world[-1, :3, 0])
    if across.norm() < _PARALLEL:
        return held
    up = F.normalize(across, dim=0)
    return up if bool(up @ held > 0) else -up


def plane_ring(camera_to_world: Float[Tensor, "v 4 4"], intrinsics: Float[Tensor, "v 3 3"]) -> CameraRing:
    """Fit a ring to many cameras around an object, as SparseFusion's code does.

    The plane nearest to the positions, and in it the circle of least algebraic error; it begins at the first
    camera. The focus is nearest to the rays through the mean principal point.

    Raises:
        ValueError: fewer than three cameras determine no circle.
    """
    if len(camera_to_world) < 3:
        raise ValueError(f"a circle needs at least three cameras, got {len(camera_to_world)}")
    positions = camera_to_world[:, :3, 3]
    mean = positions.mean(dim=0)
    _, _, axes = torch.linalg.svd(positions - mean)
    normal = axes[2]
    # Right-handed, with the sign of the plane's axes that the decomposition gives.
    flat = (positions - mean) @ torch.stack([axes[0], torch.linalg.cross(normal, axes[0])], dim=1)
    system = torch.cat([2 * flat, torch.ones_like(flat[:, :1])], dim=1)
    x, y, rest = torch.linalg.lstsq(system, flat.square().sum(dim=1)).solution
    centre = mean + x * axes[0] + y * torch.linalg.cross(normal, axes[0])
    start = F.normalize(positions[0] - centre, dim=0)
    sideways = torch.linalg.cross(normal, start)
    up = normal if bool(mean @ normal > _TURNED_BEYOND) else -normal
    focus = _nearest_point(positions, _through_mean_principal_point(camera_to_world, intrinsics))
    return CameraRing(centre, (rest + x.square() + y.square()).sqrt(), start, sideways, up, focus)


def _through_mean_principal_point(
    camera_to_world: Float[Tensor, "v 4 4"], intrinsics: Float[Tensor, "v 3 3"]
) -> Float[Tensor, "v 3"]:
    pixel = F.pad(intrinsics[:, :2, 2].mean(dim=0), (0, 1), value=1.0).expand(len(intrinsics), 3)
    directions = torch.linalg.solve(intrinsics, pixel[..., None])
    return F.normalize((camera_to_world[:, :3, :3] @ directions)[..., 0], dim=-1)


def _nearest_point(origins: Float[Tensor, "v 3"], directions: Float[Tensor, "v 3"]) -> Float[Tensor, "3"]:
    """Return the point nearest to lines, in the least-squares sense."""
    projection = torch.eye(3).to(origins) - directions[:, :, None] * directions[:, None, :]
    return torch.linalg.solve(projection.sum(dim=0), (projection @ origins[..., None]).sum(dim=0)[:, 0])
