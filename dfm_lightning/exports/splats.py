"""Scenes as Gaussians, in the file layout of 3D Gaussian splatting (Kerbl et al. 2023)."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.baking import BakedScene
from dfm_lightning.baking.baked_field import BRICK, corner_points
from dfm_lightning.exports.ply import write_ply
from dfm_lightning.geometry.rays import project_points, transform_points
from dfm_lightning.types import Cameras, select_views

# Standard deviation of a Gaussian in cells: neighbours blend, edges stay narrow.
_DEVIATION = 0.5
# Cells with less opacity are left out, and cells that receive at most this share of a pixel's light.
_LEAST_OPACITY = 0.01
_LEAST_LIGHT = 0.02
# The first spherical harmonic, 1 / (2 √π).
_HARMONIC = 0.5 / math.sqrt(math.pi)
# Coefficients of further harmonics that some viewers insist on: 15 for each colour.
_FURTHER = 45


class Splats(NamedTuple):
    """Gaussians along the scene's axes: centres, standard deviations, colours in [0, 1], opacity at the centre."""

    centres: Float[Tensor, "n 3"]
    deviations: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]


def splats(scene: BakedScene, cameras: Cameras, most: int = 150_000) -> Splats:
    """Make a Gaussian for each cell that the views see.

    A layer of cells of side a and density σ dims a ray by exp(−σa); Gaussians of deviation s and opacity o at
    their middles do so on average for −ln(1 − o) · 2πs² = σa · a².

    Args:
        scene: the scene.
        cameras: of one scene's views, a batch of one, pixel centres exact.
        most: how many at most; those that contribute most are kept.
    """
    field = scene.field
    cells = _cells(scene)
    centres = corner_points(field.frame, cells, field.resolution)
    steps = torch.eye(3) / 2
    sides = torch.stack(
        [
            (corner_points(field.frame, cells + s, field.resolution)
             - corner_points(field.frame, cells - s, field.resolution)).norm(dim=-1)
            for s in steps
        ],
        dim=-1,
    )  # fmt: skip
    values = field.query(centres[None], "fine")
    side = sides.prod(dim=-1) ** (1 / 3)
    opacity = 1 - torch.exp(-values.density[0] * side / (2 * math.pi * _DEVIATION**2))
    kept = opacity > _LEAST_OPACITY
    light = torch.zeros_like(opacity)
    light[kept] = _light(scene, cameras, centres[kept])
    share = torch.where(light > _LEAST_LIGHT, light * opacity * side.square(), 0.0)
    kept = share.topk(min(most, int((share > 0).sum()))).indices.sort().values
    return Splats(centres[kept], sides[kept] * _DEVIATION, values.colour[0, kept].clamp(0, 1), opacity[kept])


def write_splats(path: Path, gaussians: Splats) -> None:
    """Write Gaussians as viewers of 3D Gaussian splatting read them.

    Opacities are logits, deviations logarithms, colours coefficients of the first spherical harmonic; those of
    higher harmonics are 0. Rotations (w, x, y, z) are none. Axes are the scene's (y down, z forward), as viewers
    expect of COLMAP's scenes.
    """
    count = len(gaussians.centres)
    logits = torch.logit(gaussians.opacities.clamp(1e-4, 1 - 1e-4))
    columns = dict(zip("xyz", gaussians.centres.unbind(-1), strict=True))
    zero, one = torch.zeros(count), torch.ones(count)
    columns |= dict.fromkeys(("nx", "ny", "nz"), zero)
    first = (gaussians.colours - 0.5) / _HARMONIC
    columns |= {f"f_dc_{i}": first[:, i] for i in range(3)}
    columns |= {f"f_rest_{i}": zero for i in range(_FURTHER)}
    columns["opacity"] = logits
    columns |= {f"scale_{i}": gaussians.deviations[:, i].log() for i in range(3)}
    columns |= {"rot_0": one, "rot_1": zero, "rot_2": zero, "rot_3": zero}
    write_ply(path, {name: column.numpy().astype(np.float32) for name, column in columns.items()})


def _cells(scene: BakedScene) -> Float[Tensor, "n 3"]:
    """Return the middles (x, y, z, in cells) of all cells of the stored bricks."""
    middles = torch.arange(BRICK) + 0.5
    return (scene.field.occupied()[:, None] * BRICK + torch.cartesian_prod(middles, middles, middles)).flatten(
        0, 1
    )


def _light(scene: BakedScene, cameras: Cameras, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Return the share of a pixel's light that reaches each point, in the view where most does."""
    most = points.new_zeros(len(points))
    for view in range(cameras.pixels.shape[1]):
        camera = select_views(cameras, slice(view, view + 1))
        local = transform_points(torch.linalg.inv(camera.camera_to_world), points[None])
        place = project_points(camera.intrinsics, local)[0, 0]
        inside: Bool[Tensor, " n"] = (local[0, 0, :, 2] > 0) & ((place > 0) & (place < 1)).all(dim=-1)
        details = scene.renderer.observe(scene.field, camera).auxiliary
        height, width = details.depth.shape[-2:]
        column, row = (place[inside] * place.new_tensor([width, height])).long().unbind(-1)
        distances = details.distances[0, 0, row, column]
        gathered = details.weights[0, 0, row, column].cumsum(dim=-1)
        before = torch.searchsorted(distances, local[0, 0, inside].norm(dim=-1, keepdim=True)) - 1
        dimmed = torch.where(before >= 0, gathered.gather(-1, before.clamp(min=0)), 0.0)
        most[inside] = torch.maximum(most[inside], 1 - dimmed[:, 0])
    return most
