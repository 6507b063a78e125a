"""A radiance field made of a grid of features and a small MLP; distillation fits it to a scene."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.networks.grid_encoding import GridEncoding
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.record import Recorded
from dfm_lightning.signals import FieldStage, FieldValues

# Beyond this the exponential's gradient no longer grows.
_LARGEST_EXPONENT = 15.0
# Points are on the cube's surface up to rounding.
_TOLERANCE = 1e-4
# No ray is quite parallel to a side of the cube.
_LEAST_DIRECTION = 1e-12


class _Exponential(torch.autograd.Function):
    """exp(x), whose gradient is that of x clamped to ±15, so that a step cannot make density infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    # (The base class declares any number of gradients.)
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return gradient * x.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp()


class GridField(Recorded, nn.Module):
    """Colour and density of points by a grid encoding and an MLP; no view direction (SparseFusion, A.3).

    Density is exp(h + b e^(−|x|²/2r²)), so that optimisation begins with something in the middle. Outside the
    grid's cube there is nothing.

    Args:
        grid: encodes points.
        width: of the MLP's hidden layers.
        depth: number of its layers.
        blob: b, what is added to the density's logarithm in the middle.
        blob_radius: r, in units of the grid's world.
    """

    to_grid: Tensor

    def __init__(
        self,
        grid: GridEncoding | None = None,
        width: int = 64,
        depth: int = 3,
        blob: float = 5.0,
        blob_radius: float = 0.2,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width)
        check_at_least(2, depth=depth)
        check_at_least(0, blob=blob)
        check_above(0, blob_radius=blob_radius)
        self.grid = grid or GridEncoding()
        self.width = width
        self.blob = blob
        self.blob_radius = blob_radius
        widths = [self.grid.width, *[width] * (depth - 1), 4]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        # From scene axes into the grid's: a rotation with a factor, and a translation.
        self.register_buffer("to_grid", torch.eye(4))

    def reset(self) -> None:
        """Begin anew, by torch's global generator."""
        self.grid.reset()
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]  # it is a linear layer

    @property
    def floats_per_point(self) -> int:
        """See `RadianceField`: corners of all levels with their rows, and hidden layers."""
        return 40 * len(self.grid.sizes) + 3 * self.width

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """See `RadianceField`; densities are per unit of the scene."""
        extent, shape = self.grid.extent, points.shape[:2]
        placed = (points @ self.to_grid[:3, :3].mT + self.to_grid[:3, 3]).flatten(0, 1)
        inside = placed.detach().abs().amax(dim=-1) <= extent * (1 + _TOLERANCE)
        colour, density = self.in_grid(placed.clamp(-extent, extent))
        scale = torch.linalg.det(self.to_grid[:3, :3]).abs() ** (1 / 3)
        density = torch.where(inside, density * scale, 0.0).unflatten(0, shape)
        return FieldValues(colour.unflatten(0, shape), density, density.new_zeros(*shape, 0))

    def crossing(
        self, origins: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
        """See `BoundedField`: of the grid's cube."""
        turn = self.to_grid[:3, :3].mT
        start, along = origins @ turn + self.to_grid[:3, 3], directions @ turn
        along = torch.where(along.abs() < _LEAST_DIRECTION, _LEAST_DIRECTION, along)
        meets = torch.stack([(side * self.grid.extent - start) / along for side in (-1, 1)])
        near, far = meets.amin(dim=0), meets.amax(dim=0)
        return near.amax(dim=-1, keepdim=True), far.amin(dim=-1, keepdim=True)

    def in_grid(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        """Give colours and densities at points of the grid's world, by features of 0 outside of its cube."""
        x = self.grid(points)
        for number, layer in enumerate(self.layers):
            x = layer(x if number == 0 else torch.relu(x))
        blob = self.blob * torch.exp(-points.square().sum(dim=-1) / (2 * self.blob_radius**2))
        return x[:, 1:].sigmoid(), _Exponential.apply(x[:, 0] + blob)
