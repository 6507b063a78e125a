"""How much of each view's light reaches the points of a scene: shadow maps with soft shadows."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.geometry.scene_grids import GridFrame
from dfm_lightning.networks.volume_lookup import lookup_volume

# Shells of a view's map, and pixels along its sides: about as fine as a volume of 24³ cells.
_SHELLS, _PIXELS = 40, 24
# A surface does not hide itself: transmittance is read this share of the distance in front of a point.
_MARGIN = 0.1


class Visibility(NamedTuple):
    """The optical depth from each view's camera to shells around it, and the distances of the first and the last.

    `depths` is the integral of the density along a pixel's ray, up to shell d of D, from the first on; between
    them distances grow geometrically.
    """

    depths: Float[Tensor, "b v d h w"]
    near: float
    far: float

    def transmittance(
        self, local: Float[Tensor, "b v n 3"], positions: Float[Tensor, "b v n 2"]
    ) -> Float[Tensor, "b v n"]:
        """Return T in [0, 1] just before points in the views' axes that project to image positions.

        Beside an image it is that of its border; before the first shell it is 1, beyond the last it stays.
        """
        scenes, views, shells, height, width = self.depths.shape
        distance = local.norm(dim=-1) * ((1 - _MARGIN) / self.near)
        steps = distance.clamp(min=1e-6).log() / math.log(self.far / self.near)
        # Cells of the lookup have centres (i + ½)/D.
        shell = (steps * (shells - 1) + 0.5) / shells
        places = torch.cat([positions, shell[..., None]], dim=-1).clamp(0, 1)
        found = lookup_volume(self.depths.reshape(-1, shells, height, width, 1), places.flatten(0, 1))
        return (-found[..., 0]).view(scenes, views, -1).exp()


@torch.no_grad()
def visibility(
    density: Float[Tensor, "b d h w"],
    frame: GridFrame,
    world_to_camera: Float[Tensor, "b v 4 4"],
    intrinsics: Float[Tensor, "b v 3 3"],
    near: float,
    far: float,
) -> Visibility:
    """Integrate a volume's density (per scene unit) along the views' rays, from `near` to `far`.

    The volume lies in `frame`. There are no gradients.
    """
    with torch.autocast(density.device.type, enabled=False):
        scenes, views = intrinsics.shape[:2]
        middle = (torch.arange(_PIXELS, device=density.device, dtype=intrinsics.dtype) + 0.5) / _PIXELS
        row, column = torch.meshgrid(middle, middle, indexing="ij")
        pixels = torch.stack([column, row, torch.ones_like(row)], dim=-1).view(-1, 3)
        rays = F.normalize(pixels @ torch.linalg.inv(intrinsics).mT, dim=-1)
        shells = near * (far / near) ** torch.linspace(0, 1, _SHELLS, device=density.device).to(rays)
        between = (shells[1:] + shells[:-1]) / 2
        local = (rays[:, :, None] * between[:, None, None]).flatten(2, 3)
        to_world = torch.linalg.inv(world_to_camera)
        points = (local @ to_world[..., :3, :3].mT + to_world[..., None, :3, 3]).flatten(1, 2)
        values = lookup_volume(density.to(rays)[..., None], frame.places(points))
        passed = (values.view(scenes, views, _SHELLS - 1, -1) * shells.diff()[:, None]).cumsum(dim=2)
        passed = torch.cat([torch.zeros_like(passed[:, :, :1]), passed], dim=2)
        return Visibility(passed.unflatten(-1, (_PIXELS, _PIXELS)), near, far)
