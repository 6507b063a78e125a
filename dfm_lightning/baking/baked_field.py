"""A radiance field stored on a sparse grid."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfm_lightning.geometry.scene_grids import CubeFrame
from dfm_lightning.signals import FieldStage, FieldValues

# Cells along a side of a brick, the unit in which space is left out; a power of two.
BRICK = 8
# Its corners along a side, and all of them. Neighbours both store those they share: a cell needs one brick.
SIDE = BRICK + 1
CORNERS = SIDE**3
COLOUR = slice(0, 3)
DENSITY = 3
# Entries of bricks that are not stored: they are empty, or no view shows them.
EMPTY, HIDDEN = -1, -2


class BakedField(NamedTuple):
    """One scene on a grid: a `RadianceField` (a batch of one) that is read, not computed.

    The grid has `BRICK`³ cells for each entry of `bricks`, in a frame that holds all of space. `bricks` gives the
    row of `values` for a brick's corners (in order z, y, x); `EMPTY` in empty space, and `HIDDEN` where no view
    shows what is there. A row holds red, green, blue, the density of the fine stage, and that of the coarse stage
    where it differs. Between corners values are interpolated trilinearly in the frame's coordinates. Colours of
    both stages are those of the fine one; features are none.
    """

    frame: CubeFrame
    bricks: Int[Tensor, "gz gy gx"]
    values: Float[Tensor, "k n c"]

    @property
    def resolution(self) -> int:
        """Return the number of cells along a side of the grid."""
        return self.bricks.shape[0] * BRICK

    @property
    def floats_per_point(self) -> int:
        """Return the numbers that a query holds for each point: half of them are the eight corners and weights."""
        return 128

    def query(self, points: Float[Tensor, "1 n 3"], stage: FieldStage) -> FieldValues:
        """Compute values at points of the scene; density and colour are 0 in bricks that are not stored."""
        # Axis by axis: processors are fastest on long rows.
        place = self.frame.places_by_axis(points)[0] * self.resolution
        row = self._rows(place)
        there = (row >= 0).nonzero()[:, 0]
        found = self._interpolated(row.index_select(0, there), place.index_select(1, there))
        values = found.new_zeros(len(row), found.shape[1]).index_copy_(0, there, found)
        density = -1 if stage == "coarse" else DENSITY
        return FieldValues(values[None, :, COLOUR], values[None, :, density], points[..., :0])

    def occupied(self) -> Int[Tensor, "k 3"]:
        """List the stored bricks (x, y, z), in the order of their rows."""
        z, y, x = (self.bricks >= 0).nonzero(as_tuple=True)
        order = self.bricks[z, y, x].argsort()
        return torch.stack([x, y, z], dim=1)[order]

    def dense(self) -> Float[Tensor, "r r r"]:
        """Return the density at all corners of the grid (z, y, x), r = `resolution` + 1; infinite if hidden."""
        count = self.resolution + 1
        whole = self.values.new_zeros(count**3)
        z, y, x = (self.bricks == HIDDEN).nonzero(as_tuple=True)
        for bricks, values in (
            (torch.stack([x, y, z], dim=1), torch.inf),
            (self.occupied(), self.values[..., DENSITY].flatten()),
        ):
            corners = brick_corners(bricks)
            whole[((corners[..., 2] * count + corners[..., 1]) * count + corners[..., 0]).flatten()] = values
        return whole.view(count, count, count)

    def _rows(self, place: Float[Tensor, "3 n"]) -> Int[Tensor, " n"]:
        """Return the entry of `bricks` for places (x, y, z) in cells."""
        side = len(self.bricks)
        x, y, z = (place * (1 / BRICK)).int().clamp_(0, side - 1)
        # (Indices of 32 bits: memory is what limits the speed here.)
        return self.bricks.view(-1).int().index_select(0, (z * side + y) * side + x)

    def _interpolated(self, row: Int[Tensor, " m"], place: Float[Tensor, "3 m"]) -> Float[Tensor, "m c"]:
        """Interpolate values at places in cells, given the rows of their bricks."""
        cell = place.int().clamp_(0, self.resolution - 1)
        right, down, behind = fraction = place - cell
        left, up, before = 1 - fraction
        plane = left * up, right * up, left * down, right * down
        # A row for each point, as the lookup needs them: it would copy a transposed matrix slowly.
        weights = torch.stack([part * depth for depth in (before, behind) for part in plane], dim=1)
        x, y, z = cell & (BRICK - 1)
        first = row * CORNERS + (z * SIDE + y) * SIDE + x
        steps = [0, 1, SIDE, SIDE + 1]
        steps += [step + SIDE**2 for step in steps]
        corners = first[:, None] + torch.tensor(steps, dtype=row.dtype, device=row.device)
        return torch.nn.functional.embedding_bag(
            corners, self.values.flatten(0, 1), per_sample_weights=weights.to(self.values), mode="sum"
        )


def brick_corners(bricks: Int[Tensor, "k 3"]) -> Int[Tensor, "k n 3"]:
    """Return the corners (x, y, z) of bricks (x, y, z) on the grid, in the order of their stored values."""
    steps = torch.arange(SIDE, device=bricks.device)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return bricks[:, None] * BRICK + torch.stack([x, y, z], dim=-1).view(-1, 3)


def corner_points(
    frame: CubeFrame, corners: Int[Tensor, "*n 3"] | Float[Tensor, "*n 3"], resolution: int
) -> Float[Tensor, "*n 3"]:
    """Map corners of the grid (x, y, z, also in between) to the scene; the outermost lie half a cell further in.

    (They would be infinitely far away.)
    """
    places = (corners / resolution).clamp(0.5 / resolution, 1 - 0.5 / resolution)
    return frame.points(places.reshape(1, -1, 3).to(frame.to_cube)).view(corners.shape)


def keep_bricks(field: BakedField, kept: Bool[Tensor, " k"], others: int) -> BakedField:
    """Keep some of the bricks, by the order of their rows; the others become `EMPTY` or `HIDDEN`."""
    bricks = field.bricks.clone()
    x, y, z = field.occupied().unbind(-1)
    bricks[z, y, x] = torch.where(kept, kept.cumsum(0) - 1, others)
    return BakedField(field.frame, bricks, field.values[kept])
