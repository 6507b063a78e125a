"""The views of a distillation: given ones with their masks, and cameras around the scene."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.geometry.camera_ring import CameraRing, level_ring, plane_ring
from dfm_lightning.geometry.cameras import pixel_grid
from dfm_lightning.tasks.distillation.settings import Distillation
from dfm_lightning.tasks.latent_views import LatentViews
from dfm_lightning.types import Cameras, Views, concatenate, select_views

# A pixel whose colours are all below this is masked away, in [-1, 1].
_MASKED = -1 + 1 / 255


class GivenView(NamedTuple):
    """An input view at the size of renderings: colours in [0, 1] and the share of it that is foreground."""

    camera: Cameras
    image: Float[Tensor, "1 3 h w"]
    mask: Float[Tensor, "1 1 h w"]


class RingView(NamedTuple):
    """A camera around the scene: the transformer's features and image there, in [0, 1], in full size."""

    camera: Cameras
    features: Float[Tensor, "1 f g g"]
    estimate: Float[Tensor, "1 3 h w"]
    mask: Float[Tensor, "1 1 h w"]


def given_views(context: Views, settings: Distillation) -> list[GivenView]:
    """Reduce input views to the size of renderings, each with its mask: what is not masked black."""
    size = settings.render_size
    images = (context.observation[0] + 1) / 2
    mask = (context.observation[0] > _MASKED).any(dim=1, keepdim=True).to(images)
    mode = "nearest" if settings.as_released else "area"
    images, mask = (F.interpolate(part, (size, size), mode=mode) for part in (images, mask))
    cameras = with_pixels(context.params, size)
    return [
        GivenView(select_views(cameras, slice(view, view + 1)), images[view : view + 1], mask[view : view + 1])
        for view in range(len(images))
    ]


def ring_of(context: Cameras, others: Cameras | None, settings: Distillation) -> CameraRing:
    """Fit the circle of a scene, by its context cameras; as released, by all cameras."""
    if settings.as_released and others is not None:
        cameras = concatenate([context, others], dim=1)
        if cameras.camera_to_world.shape[1] >= 3:
            return plane_ring(cameras.camera_to_world[0].double(), cameras.intrinsics[0].double())
    # The world's origin, seen from the first context camera.
    origin = torch.linalg.inv(context.absolute_pose[0, 0].double())[:3, 3]
    return level_ring(context.camera_to_world[0].double(), origin)


def ring_cameras(context: Cameras, others: Cameras | None, settings: Distillation) -> Cameras:
    """Place cameras evenly around the ring, raised at random (by torch's global generator), with the mean lens."""
    ring, count = ring_of(context, others, settings), settings.ring_cameras
    angles = torch.linspace(0, 2 * math.pi, count, dtype=torch.float64)
    raised = (2 * torch.rand(count, dtype=torch.float64) - 1) * settings.jitter
    poses = ring.poses(ring.raised(ring.positions(angles.to(ring.centre)), raised.to(ring.centre)))
    poses = poses.to(context.camera_to_world)
    intrinsics = context.intrinsics[0].mean(dim=0).expand(count, 3, 3)
    absolute = context.absolute_pose[0, 0] @ poses
    around = Cameras(
        poses[None], intrinsics[None], absolute[None], context.pixels[:, :1].expand(-1, count, -1, -1, -1)
    )
    return concatenate([around, others], dim=1) if settings.as_released and others is not None else around


def ring_views(
    model: LatentViews, context: Views, others: Cameras | None, settings: Distillation
) -> list[RingView]:
    """Compute the features and images of all cameras around the scene, once."""
    maps, size = model.transformer.encode(context), context.observation.shape[-1]
    others = None if others is None else with_pixels(others, size)
    cameras, found = ring_cameras(context.params, others, settings), []
    for view in range(cameras.pixels.shape[1]):
        known = model.view_features(maps, cameras, view, size)
        coarse = known.colour.mT.unflatten(2, (model.rays, model.rays)).clamp(0, 1)
        image = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=model.rays_at_corners)
        mask = (image.mean(dim=1, keepdim=True) > settings.mask_threshold).to(image)
        camera = with_pixels(select_views(cameras, slice(view, view + 1)), settings.render_size)
        found.append(RingView(camera, model.as_grid(known), image, mask))
        model.plan.worked(1)
    return found


def with_pixels(cameras: Cameras, size: int) -> Cameras:
    """Return the cameras with all pixels of square images of another size."""
    pixels = pixel_grid(size, size).to(cameras.pixels)
    return cameras._replace(pixels=pixels.expand(*cameras.pixels.shape[:2], size, size, 2))
