"""A scene known in closed form, seen from all around: two balls, one small, baked and as it is."""

import torch
from jaxtyping import Float
from known_fields import KnownField
from torch import Tensor

from dfm_lightning.baking import BakedScene, bake_scene
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.types import Cameras, map_tensors

RADIUS, SMALL, SMALL_CENTRE = 1.0, 0.12, (0.0, -1.5, 4.0)
CENTRE = (0.0, 0.0, 4.0)


def density(points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
    """40 within the balls, 0 outside, with an edge 0.1 wide."""
    edges = [
        (radius - (points - points.new_tensor(centre)).norm(dim=-1)) / 0.1 + 0.5
        for centre, radius in ((CENTRE, RADIUS), (SMALL_CENTRE, SMALL))
    ]
    return 40 * torch.maximum(*edges).clamp(0, 1)


def colour(points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
    """Red from left to right, green from top to bottom."""
    return ((points - points.new_tensor(CENTRE)) * points.new_tensor([0.4, 0.4, 0.0]) + 0.5).clamp(0, 1)


def field() -> KnownField:
    return KnownField(density, colour)


def renderer(fine_samples: int = 0) -> VolumeRendering:
    return VolumeRendering(near=2.0, far=6.0, coarse_samples=64, fine_samples=fine_samples).eval()


def ring(count: int = 12, size: int = 32) -> Cameras:
    """Cameras on three rings around the balls, a batch of one; the first is the origin, looking along +z."""
    azimuth = torch.arange(count) / count * 6 * torch.pi
    height = torch.tensor([0.0, -2.5, 2.5]).repeat_interleave(count // 3)
    flat = (16 - height.square()).sqrt()
    position = torch.stack([flat * azimuth.sin(), height, -flat * azimuth.cos()], dim=1)
    poses = look_at(position, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    intrinsics = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]).expand(count, 3, 3)
    return map_tensors(lambda t: t[None], build_cameras(poses, intrinsics, poses[0], size, size))


def baked(resolution: int = 64, fine_samples: int = 0, cameras: Cameras | None = None) -> BakedScene:
    cameras = ring() if cameras is None else cameras
    scene, rendering = field(), renderer(fine_samples)
    details = rendering.observe(scene, cameras).auxiliary
    return bake_scene(scene, rendering, cameras, details.depth[0], details.opacity[0], resolution)
