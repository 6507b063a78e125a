"""The epipolar feature transformer: colour and features of a query camera's rays, from posed context views."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.errors import UserError
from dfm_lightning.geometry.epipolar import epipolar_points
from dfm_lightning.networks.epipolar.aggregation import EpipolarAggregation, EpipolarFeatures
from dfm_lightning.networks.epipolar.pyramid import ResNetPyramid
from dfm_lightning.ranges import check_above
from dfm_lightning.record import Recorded
from dfm_lightning.types import Cameras, Views


class DepthRange(Recorded):
    """The range of points along query rays: by default around the cameras' distance from the origin.

    As in SparseFusion, s ± `half` with the mean distance s of cameras from the origin of the data set's world,
    which in Co3D is about where the object stands. Where a world's origin means nothing, give `near` and `far`.

    Args:
        half: half the range of depths, in scene units.
        least: the nearest depth at least; cameras nearer than `half` would have points behind them otherwise. Null
            allows them, as in SparseFusion's code.
        near: the nearest depth, instead of s − half.
        far: the farthest depth, instead of s + half.
    """

    def __init__(
        self,
        half: float = 5.0,
        least: float | None = 0.1,
        near: float | None = None,
        far: float | None = None,
    ) -> None:
        check_above(0, half=half, least=least, near=near, far=far)
        if (near is None) != (far is None):
            raise ValueError("give both near and far, or neither")
        if near is not None and far is not None and near >= far:
            raise ValueError(f"near and far must satisfy 0 < near < far, got {near} and {far}")
        self.half = half
        self.least = least
        self.near = near
        self.far = far

    def ends(self, distance: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Give the first and the last depth, given the cameras' mean distance from the origin."""
        if self.near is not None and self.far is not None:
            return torch.full_like(distance, self.near), torch.full_like(distance, self.far)
        near = distance - self.half
        return near if self.least is None else near.clamp(min=self.least), distance + self.half

    def depths(self, distance: Float[Tensor, " b"], count: int) -> Float[Tensor, "b d"]:
        """Give equally spaced depths, both ends included."""
        near, far = (end[:, None] for end in self.ends(distance))
        # Term by term as `torch.linspace` computes: symmetric about the middle.
        steps = torch.arange(count, dtype=distance.dtype, device=distance.device)
        step = (far - near) / (count - 1)
        return torch.where(steps < count / 2, near + step * steps, far - step * (count - 1 - steps))


class ContextMaps(NamedTuple):
    """Context views: features, images in [0, 1] and cameras.

    `distance` is the mean distance of cameras from the world's origin, for `DepthRange`.
    """

    features: Float[Tensor, "b v c h w"]
    images: Float[Tensor, "b v 3 hi wi"]
    camera_to_world: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 3 3"]
    distance: Float[Tensor, " b"]


class EpipolarTransformer(Recorded, nn.Module):
    """Predicts colour and features of a query camera's rays from posed context views: EFT (SparseFusion, 4.2).

    Works without any diffusion as a deterministic baseline; its features condition a latent diffusion model.

    Args:
        pyramid: computes the context views' features.
        width: see `EpipolarAggregation`, as for all up to `linear_colour`.
        layers: encoder layers of each of three transformers.
        heads: their attention heads.
        depths: points of each ray.
        octaves: frequencies of the harmonic embeddings.
        dropout: probability of dropping in training.
        linear_colour: whether the colour is linear in the features.
        depth_range: where the points lie.
        corner_aligned: whether maps are read as if the centres of their outermost cells lay at 0 and 1, as in
            SparseFusion's code, half a cell off.
    """

    def __init__(
        self,
        pyramid: ResNetPyramid | None = None,
        width: int = 256,
        layers: int = 4,
        heads: int = 1,
        depths: int = 20,
        octaves: int = 6,
        dropout: float = 0.1,
        linear_colour: bool = False,
        depth_range: DepthRange | None = None,
        corner_aligned: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid or ResNetPyramid()
        self.aggregation = EpipolarAggregation(
            self.pyramid.channels, width, layers, heads, depths, octaves, dropout, linear_colour
        )
        self.depth_range = depth_range or DepthRange()
        self.corner_aligned = corner_aligned

    @property
    def width(self) -> int:
        """Return the number of the features' channels."""
        return self.aggregation.width

    def encode(self, context: Views, distance: Float[Tensor, " b"] | None = None) -> ContextMaps:
        """Compute the features of context views, once for all query cameras.

        Args:
            context: images in [-1, 1], masked (black) where the background is not to be seen, and their `Cameras`.
            distance: mean distance of the scene's cameras from the world's origin; the context's if none.

        Raises:
            UserError: there is no context view.
        """
        cameras: Cameras = context.params
        if context.observation.shape[1] == 0:
            raise UserError("epipolar features need at least one context view, got none")
        images = (context.observation + 1) / 2
        features = self.pyramid(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if distance is None:
            distance = camera_distance(cameras)
        return ContextMaps(features, images, cameras.camera_to_world, cameras.intrinsics, distance)

    def forward(
        self,
        maps: ContextMaps,
        camera_to_world: Float[Tensor, "b 4 4"],
        intrinsics: Float[Tensor, "b 3 3"],
        pixels: Float[Tensor, "b n 2"],
    ) -> EpipolarFeatures:
        """Predict the colour and the features of a query camera's rays through some pixels."""
        depths = self.depth_range.depths(maps.distance, self.aggregation.depths)
        points = epipolar_points(
            camera_to_world, intrinsics, pixels, depths, maps.camera_to_world, maps.intrinsics
        )
        return self.aggregation(self.look_up(maps, points.positions), points)

    def look_up(self, maps: ContextMaps, positions: Float[Tensor, "b v n d 2"]) -> Float[Tensor, "b v n d c"]:
        """Read features, then colours, at positions in the context views; outside, those of the nearest border."""
        grid = (2 * positions.flatten(0, 1) - 1).to(maps.features.dtype)
        read = [
            F.grid_sample(table.flatten(0, 1), grid, "bilinear", "border", align_corners=self.corner_aligned)
            for table in (maps.features, maps.images)
        ]
        return torch.cat(read, dim=1).movedim(1, -1).unflatten(0, positions.shape[:2])


def camera_distance(cameras: Cameras) -> Float[Tensor, " b"]:
    """Compute the mean distance of each scene's cameras from the origin of the data set's world."""
    return cameras.absolute_pose[..., :3, 3].norm(dim=-1).mean(dim=-1)
