"""From views to the cells of a grid: what the volume denoiser computes of a context once."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.denoisers.hidden_look import LookPlaces
from dfm_lightning.denoisers.view_denoiser import ViewDenoiser
from dfm_lightning.denoisers.volume_field import LiftedViews, lifted_views
from dfm_lightning.geometry.scene_grids import GridFrame, SceneGrid
from dfm_lightning.ranges import check_at_least
from dfm_lightning.types import Cameras, Views

# Side of the coarse images whose colours make up the palette.
_PALETTE_SIDE = 4
PALETTE = _PALETTE_SIDE**2


class VolumeConditioning(NamedTuple):
    """The denoiser's conditioning, computed once for a sampling run.

    `points` are the cells of the grid in the scene; `lifted` holds mean and variance over the context views of
    what each of them sees there, `encoded` the mean of the encoder's summaries of them. `hidden` is
    the share of the cells' light that no view of the context gets. `estimate`, `hidden` and `places` are None if
    the denoiser does not use them.
    """

    frame: GridFrame
    points: Float[Tensor, "b n 3"]
    views: LiftedViews
    target: Cameras
    lifted: Float[Tensor, "b n c"]
    encoded: Float[Tensor, "b e"]
    summary: Float[Tensor, "b s"]
    palette: Float[Tensor, "b p 3"]
    estimate: Float[Tensor, "b 1 e h w"] | None = None
    hidden: Float[Tensor, "b n 1"] | None = None
    places: LookPlaces | None = None


class ViewLifting(ViewDenoiser[VolumeConditioning]):
    """A denoiser of scenes that reads its views at the cells of a grid.

    Args:
        grid: where the volume lies in the scene.
        resolution: cells along the sides of the volume; one number, or three: along x, y and z.
        features: channels of the feature maps.
        image_widths: channels of the 2D U-Net at each resolution.
        lifted_channels: channels of what a cell sees in a view.
        condition_width: length of the vectors that condition networks.
        blurred_inputs: see `ViewDenoiser`.
        estimated: see `ViewDenoiser`.
        looks: see `ViewDenoiser`.
        unmixed_looks: see `ViewDenoiser`.
    """

    cells: Float[Tensor, "n 3"]

    def __init__(
        self,
        grid: SceneGrid,
        resolution: int | list[int],
        features: int,
        image_widths: list[int],
        lifted_channels: int,
        condition_width: int,
        blurred_inputs: bool,
        estimated: bool,
        looks: int,
        unmixed_looks: bool = False,
    ) -> None:
        check_at_least(1, features=features, condition_width=condition_width, image_widths=image_widths)
        check_at_least(1, lifted_channels=lifted_channels, resolution=resolution)
        sides = [resolution] * 3 if isinstance(resolution, int) else resolution
        if len(sides) != 3:
            raise ValueError(f"resolution must be one number or three, got {resolution}")
        super().__init__(
            features,
            image_widths,
            condition_width,
            blurred_inputs,
            estimated,
            looks,
            unmixed_looks,
        )
        self.grid = grid
        self.sides = sides
        self.lift = nn.Linear(features + 3 + 2, lifted_channels)
        self.summary = nn.Sequential(
            nn.Linear(3 * PALETTE, condition_width), nn.SiLU(), nn.Linear(condition_width, condition_width)
        )
        z, y, x = torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in reversed(sides)), indexing="ij")
        self.register_buffer("cells", torch.stack([x, y, z], dim=-1).view(-1, 3), persistent=False)

    def _as_cubes(self, cells: Float[Tensor, "b n c"]) -> Float[Tensor, "b c d h w"]:
        """Arrange the cells along the volume's sides."""
        return cells.mT.unflatten(2, self.sides[::-1])

    def _lift_context(self, context: Views, target_params: Cameras) -> VolumeConditioning:
        """Encode the context's views, and read them at the cells of the grid."""
        images = context.observation
        scenes, views = images.shape[:2]
        coarse, summary = self._coarse(images)
        clean = images.new_ones(scenes * views), images.new_zeros(scenes * views)
        level = self._level_condition(*clean)
        condition = level + summary.repeat_interleave(views, dim=0)
        maps, encoded = self._encode(images.flatten(0, 1), *clean, condition)
        present = torch.ones(scenes, views, dtype=torch.bool, device=images.device)
        maps, told = (part.unflatten(0, (scenes, views)) for part in (maps, self.level_of_view(level)))
        shown = lifted_views(context.params, maps, told, present)
        frame = self.grid.frame(context.params)
        points = frame.points(self.cells.expand(scenes, -1, -1))
        each = self._seen_from(points, shown)
        mean = each.mean(dim=1)
        lifted = torch.cat([mean, (each - mean[:, None]).square().mean(dim=1)], dim=-1)
        palette = coarse[:, 0].flatten(2).mT * 0.5 + 0.5
        encoded = encoded.unflatten(0, (scenes, views)).mean(dim=1)
        return VolumeConditioning(frame, points, shown, target_params, lifted, encoded, summary, palette)

    def _coarse(
        self, images: Float[Tensor, "b v 3 h w"]
    ) -> tuple[Float[Tensor, "b v 3 p p"], Float[Tensor, "b s"]]:
        """Return the context's images at a few pixels, and a vector of their colours."""
        coarse = F.adaptive_avg_pool2d(images.flatten(0, 1), _PALETTE_SIDE).unflatten(0, images.shape[:2])
        return coarse, self.summary(coarse.flatten(2)).mean(dim=1)

    def _seen_from(self, points: Float[Tensor, "b n 3"], views: LiftedViews) -> Float[Tensor, "b v n c"]:
        """Read each view at each cell of the grid; zero where a view does not show it."""
        shown = views.at(points, self.grid.distance)
        seen = shown.seen[..., None]
        parts = [shown.features, shown.colour, shown.depth, seen.to(shown.depth.dtype)]
        return F.relu(self.lift(torch.cat(parts, dim=-1))) * seen
