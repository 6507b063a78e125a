"""The radiance field made of a volume and several views."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.denoisers.visibility import Visibility
from dfm_lightning.geometry.rays import in_image, project_points, transform_points
from dfm_lightning.geometry.scene_grids import GridFrame
from dfm_lightning.networks.feature_lookup import lookup_features
from dfm_lightning.networks.point_decoder import ContextLight, PointDecoder, PointViews
from dfm_lightning.networks.volume_lookup import lookup_volume
from dfm_lightning.signals import FieldStage, FieldValues
from dfm_lightning.types import Cameras

# A view shows nothing nearer to its camera's plane than this, in units of the scene's distance.
_LEAST_DEPTH = 0.02


class LiftedViews(NamedTuple):
    """Views whose pixels can be looked up at points of a scene.

    `maps` holds features and, as the last three channels, colours in [0, 1]. `level` is a vector of each view's
    diffusion level. A view that is not `present` shows nothing.
    """

    world_to_camera: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 3 3"]
    maps: Float[Tensor, "b v h w f"]
    level: Float[Tensor, "b v e"]
    present: Bool[Tensor, "b v"]

    def at(self, points: Float[Tensor, "b n 3"], distance: float) -> PointViews:
        """Read the views at points of the scene, whose middle is `distance` away."""
        local = transform_points(self.world_to_camera, points)
        positions = project_points(self.intrinsics, local)
        depth = local[..., 2:] / distance
        seen = (depth[..., 0] > _LEAST_DEPTH) & in_image(positions)
        found = lookup_features(self.maps, positions)
        features, colour = found.split([found.shape[-1] - 3, 3], dim=-1)
        return PointViews(features, colour, depth.clamp(min=_LEAST_DEPTH).log(), seen & self.present[..., None])


def lifted_views(
    cameras: Cameras,
    maps: Float[Tensor, "b v h w f"],
    level: Float[Tensor, "b v e"],
    present: Bool[Tensor, "b v"],
) -> LiftedViews:
    """Make views of cameras and maps."""
    return LiftedViews(torch.linalg.inv(cameras.camera_to_world), cameras.intrinsics, maps, level, present)


class HiddenPart(NamedTuple):
    """What the context's views, the first of the field's, do not see; and in which scenes its look is decided."""

    visibility: Visibility
    decided: Bool[Tensor, " b"]

    def light(self, points: Float[Tensor, "b n 3"], views: LiftedViews) -> Float[Tensor, "b v n"]:
        """Return the share of each point's light that each view of the context gets."""
        count = self.visibility.depths.shape[1]
        local = transform_points(views.world_to_camera[:, :count], points)
        positions = project_points(views.intrinsics[:, :count], local)
        shown = (local[..., 2] > 0) & in_image(positions)
        return self.visibility.transmittance(local, positions) * shown

    def share(self, points: Float[Tensor, "b n 3"], views: LiftedViews) -> Float[Tensor, "b n 1"]:
        """Return the share of each point's light that no view of the context gets."""
        return ContextLight(self.light(points, views), self.decided).hidden


class VolumeField(NamedTuple):
    """A scene as a volume in its grid and the views that its points take their colours from.

    A tree of tensors with leading dimension b, the network that reads it, and the distance of the scene's middle.
    With a hidden part, the field's feature is the share of a point's light that no view of the context gets.
    """

    frame: GridFrame
    volume: Float[Tensor, "b d h w c"]
    views: LiftedViews
    summary: Float[Tensor, "b s"]
    palette: Float[Tensor, "b p 3"]
    decoder: PointDecoder
    distance: float
    hidden: HiddenPart | None = None

    @property
    def floats_per_point(self) -> int:
        """Return the numbers that a query holds for each point."""
        return self.views.intrinsics.shape[1] * self.decoder.floats_per_point

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Compute values at points in the scene, the same for both stages."""
        views = self.views.at(points, self.distance)
        local = lookup_volume(self.volume, self.frame.places(points))
        light, features = None, points[..., :0]
        if self.hidden is not None:
            decided, found = self.hidden.decided, self.hidden.light(points, self.views)
            features = ContextLight(found, decided).hidden.to(points.dtype)
            light = ContextLight(torch.where(decided[:, None, None], found, 1.0), decided)
        colour, density = self.decoder(local, views, self.views.level, self.summary, self.palette, light)
        return FieldValues(colour.to(points.dtype), density.to(points.dtype), features)
