"""Multi-resolution grids of learned features (Müller et al. 2022), tiled or hashed, in plain PyTorch."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.ranges import check_above, check_at_least, check_within
from dfm_lightning.record import Recorded

GridKind = Literal["tiled", "hashed"]
# Factors of the coordinates in the spatial hash (Müller et al. 2022, eq. 4).
_PRIMES = (1, 2654435761, 805459861)
_UINT32 = 2**32 - 1
# Tables are padded to multiples of this.
_PADDING = 8
_INITIAL = 1e-4


class GridEncoding(Recorded, nn.Module):
    """Features of points in a cube, interpolated trilinearly in grids of growing resolution.

    Level l has the resolution base · s^l, s such that the last one has `resolution`. Vertices beyond a level's
    table share entries: by a hash of their coordinates, or "tiled", by the remainder of their number, in which a
    coordinate whose stride exceeds the table no longer counts (as in torch-ngp: at fine levels z has no effect).

    Args:
        levels: number of grids.
        features: numbers at each vertex.
        base: resolution of the first level.
        resolution: resolution of the last level.
        log2_table: log2 of the entries that a level has at most.
        kind: which vertices share an entry.
        extent: points are within ±extent; outside, all features are 0.
    """

    offsets: Tensor

    def __init__(
        self,
        levels: int = 16,
        features: int = 2,
        base: int = 16,
        resolution: int = 8192,
        log2_table: int = 16,
        kind: GridKind = "tiled",
        extent: float = 4.0,
    ) -> None:
        super().__init__()
        check_at_least(1, levels=levels, features=features, base=base)
        check_at_least(base, resolution=resolution)
        check_within(3, 24, log2_table=log2_table)
        check_above(0, extent=extent)
        self.kind: GridKind = kind
        self.extent = extent
        self.features = features
        growth = math.log2(resolution / base) / max(levels - 1, 1)
        # The largest coordinate of each level, and the number of its vertices along a side. Rounded to float32
        # where torch-ngp's kernel rounds: the last digits move points by parts of a cell, and decide what is
        # rounded up. (Powers in double precision, since torch.exp2's last digit differs between processors.)
        exponents = torch.arange(levels, dtype=torch.float32) * torch.tensor(growth, dtype=torch.float32)
        powers = torch.tensor([2.0**exponent for exponent in exponents.tolist()], dtype=torch.float32)
        self.scales: list[float] = (powers * base - 1).tolist()
        self.sides = [math.ceil(scale) + 2 for scale in self.scales]
        sizes = [min(2**log2_table, _padded(math.ceil(2 ** (n * growth) * base) + 1)) for n in range(levels)]
        self.sizes = sizes
        starts = torch.tensor([0, *sizes]).cumsum(dim=0)
        self.register_buffer("offsets", starts.int(), persistent=False)
        self.table = nn.Parameter(torch.empty(int(starts[-1]), features))
        self.reset()

    def reset(self) -> None:
        """Begin anew with next to nothing, by torch's global generator."""
        nn.init.uniform_(self.table, -_INITIAL, _INITIAL)

    @property
    def width(self) -> int:
        """Return the length of a point's encoding."""
        return len(self.sizes) * self.features

    def forward(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n w"]:
        """Encode points; differentiable in the table and, but at cells' borders, in the points."""
        unit = (points + self.extent) / (2 * self.extent)
        inside = ((unit >= 0) & (unit <= 1)).all(dim=-1)
        place = unit[:, None] * unit.new_tensor(self.scales)[:, None] + 0.5
        cell = place.detach().floor()
        fraction = place - cell
        corners = torch.cartesian_prod(*[torch.arange(2, device=points.device)] * 3)
        vertex = cell.nan_to_num(0.0).long()[:, :, None] + corners
        chosen = torch.where(corners.bool(), fraction[:, :, None], 1 - fraction[:, :, None])
        weights = chosen.prod(dim=-1) * inside[:, None, None]
        rows = self._rows(torch.where(inside[:, None, None, None], vertex, 0))
        found = F.embedding_bag(
            rows.flatten(0, 1), self.table, per_sample_weights=weights.to(self.table).flatten(0, 1), mode="sum"
        )
        return found.view(len(points), -1)

    def _rows(self, vertex: Int[Tensor, "n l 8 3"]) -> Int[Tensor, "n l 8"]:
        """Return the row of the table that holds each vertex."""
        rows = []
        for level, (side, size) in enumerate(zip(self.sides, self.sizes, strict=True)):
            place, stride, index = vertex[:, level], 1, torch.zeros_like(vertex[:, level, :, 0])
            for axis in range(3):
                if stride > size:
                    break
                index = index + place[..., axis] * stride
                stride *= side
            if self.kind == "hashed" and stride > size:
                index = place[..., 0] * _PRIMES[0] & _UINT32
                for axis in (1, 2):
                    index = index ^ (place[..., axis] * _PRIMES[axis] & _UINT32)
            rows.append(index % size + int(self.offsets[level]))
        return torch.stack(rows, dim=1)


def _padded(side: int) -> int:
    """Return the number of vertices of a grid, rounded up to whole groups."""
    return -(-(side**3) // _PADDING) * _PADDING
