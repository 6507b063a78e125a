"""A radiance field made of pixel-aligned features of several views (pixelNeRF, Yu et al. 2021)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.geometry.rays import project_points, transform_points
from dfm_lightning.networks.feature_lookup import lookup_features
from dfm_lightning.networks.radiance_mlp import RadianceMLP
from dfm_lightning.signals import FieldStage, FieldValues
from dfm_lightning.types import Cameras


class ViewFeatures(NamedTuple):
    """The inputs of one MLP of a field from each view: its feature maps after the first layer, its levels."""

    projected_maps: Float[Tensor, "b v h w d"]
    modulation: Float[Tensor, "b v k 2 d"]
    mlp: RadianceMLP


class SeenPoints(NamedTuple):
    """Points as some of the views see them: in their axes, where they project to, and the features found there."""

    views: ViewFeatures
    local: Float[Tensor, "b v n 3"]
    positions: Float[Tensor, "b v n 2"]
    features: Float[Tensor, "b v n d"]


class PixelNeRFField(NamedTuple):
    """A scene as seen by views: a tree of tensors with leading dimensions b v, and the networks that read it.

    Fields of the same networks are joined by concatenating their views; the last view counts as the noisy one,
    whose diffusion level applies after the mean over views.
    """

    world_to_camera: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 3 3"]
    coarse: ViewFeatures
    fine: ViewFeatures
    project_behind: bool

    @property
    def floats_per_point(self) -> int:
        """Return the numbers that a query holds for each point."""
        views = self.intrinsics.shape[1]
        return views * max(stage.mlp.floats_per_point for stage in (self.coarse, self.fine))

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Compute values at points of the scene: each view's features at the point's projection, then the MLP."""
        views, local, _, features = self.seen(points, stage, slice(None))
        return self._values(views.mlp(local, features, views.modulation), points)

    def per_view(
        self, points: Float[Tensor, "b n 3"], stage: FieldStage, chosen: slice
    ) -> Float[Tensor, "b v n d"]:
        """Compute what some of the views know of points: the first half of `query`, up to the mean over views."""
        views, local, _, features = self.seen(points, stage, chosen)
        return views.mlp.per_view(local, features, views.modulation[:, chosen])

    def joined(
        self, mean: Float[Tensor, "b n d"], points: Float[Tensor, "b n 3"], stage: FieldStage
    ) -> FieldValues:
        """Compute values from the mean over views: the second half of `query`."""
        views = self.coarse if stage == "coarse" else self.fine
        return self._values(views.mlp.joined(mean, views.modulation[:, -1]), points)

    def seen(self, points: Float[Tensor, "b n 3"], stage: FieldStage, chosen: slice) -> SeenPoints:
        """Look points up in some of the views."""
        views = self.coarse if stage == "coarse" else self.fine
        local = transform_points(self.world_to_camera[:, chosen], points)
        ahead = None if self.project_behind else local[..., 2] > 0
        positions = project_points(self.intrinsics[:, chosen], local)
        found = lookup_features(views.projected_maps[:, chosen], positions, ahead)
        return SeenPoints(views, local, positions, found)

    def _values(self, raw: Float[Tensor, "b n o"], points: Float[Tensor, "b n 3"]) -> FieldValues:
        raw = raw.to(points.dtype)
        return FieldValues(raw[..., :3].sigmoid(), raw[..., 3].relu(), raw[..., 4:])


def view_features(mlp: RadianceMLP, maps: Float[Tensor, "b v h w f"], level: Int[Tensor, "b v"]) -> ViewFeatures:
    """Prepare views for an MLP: once for a field, not for each point."""
    return ViewFeatures(mlp.project_maps(maps), mlp.modulation(level), mlp)


def pixelnerf_field(
    coarse: RadianceMLP,
    fine: RadianceMLP,
    maps: Float[Tensor, "b v h w f"],
    cameras: Cameras,
    level: Int[Tensor, "b v"],
    project_behind: bool,
) -> PixelNeRFField:
    """Build the field of views with the given feature maps, cameras and diffusion levels.

    `coarse` and `fine` may be the same MLP; its views are then prepared once.
    """
    # The true inverse, not the transpose: a stored rotation is exact only up to rounding, and the high frequencies
    # of the positional encoding would magnify the error.
    world_to_camera = torch.linalg.inv(cameras.camera_to_world)
    coarse_views = view_features(coarse, maps, level)
    fine_views = coarse_views if fine is coarse else view_features(fine, maps, level)
    return PixelNeRFField(world_to_camera, cameras.intrinsics, coarse_views, fine_views, project_behind)
