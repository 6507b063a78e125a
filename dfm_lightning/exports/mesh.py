"""The surface of a baked scene."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dfm_lightning.baking import BakedScene
from dfm_lightning.baking.baked_field import BRICK, BakedField, corner_points
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.rays import ray_origins
from dfm_lightning.types import Cameras

# Parts of the surface with fewer triangles than this share of the largest part's are left out.
LEAST_SHARE = 0.05


class Mesh(NamedTuple):
    """Triangles, counter-clockwise seen from outside, in the scene's axes; sRGB colours of vertices in [0, 1]."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    colours: Float[np.ndarray, "n 3"]


def surface_density(scene: BakedScene) -> float:
    """Return the density at which a ray loses half its light from one coarse point to the next."""
    renderer = scene.renderer
    return math.log(2) * renderer.coarse_samples / (renderer.far - renderer.near)


def surface(scene: BakedScene, cameras: Cameras, density: float | None = None) -> Mesh:
    """Extract the surface at a density by marching cubes (Lewiner et al. 2003); keep its largest parts.

    It is closed around things that the views show from all sides, and ends where no view shows how the scene
    continues. Hidden space counts as full, so that things are not hollow.

    Args:
        scene: the scene.
        cameras: of one scene's views, a batch of one; what is too far from all of them to be rendered is left out.
        density: the value; `surface_density` if null.

    Raises:
        UserError: nothing is as dense, or scikit-image is not installed.
    """
    try:
        from skimage.measure import marching_cubes
    except ModuleNotFoundError as error:
        raise UserError("Meshes need scikit-image: pip install 'dfm-lightning[export]'") from error
    field = scene.field
    level = surface_density(scene) if density is None else density
    # In logarithms density is closer to linear between corners, so that vertices lie closer to the surface.
    volume = np.pad(
        np.log(field.dense().numpy().clip(level * 1e-3, level * 1e3) / level), 1, constant_values=-np.log(1e3)
    )
    if volume.max() <= 0:
        raise UserError(f"the scene has no surface: nothing in it is as dense as {level:.3g} per scene unit")
    corners, faces, _, _ = marching_cubes(volume, 0.0, allow_degenerate=False)
    corners = corners[:, ::-1] - 1  # (axes z, y, x become x, y, z)
    points = corner_points(field.frame, torch.from_numpy(corners.copy()).float(), field.resolution)
    reached = (torch.cdist(points[None], ray_origins(cameras)).amin(dim=2)[0] < scene.renderer.far).numpy()
    faces = faces[_stored(field, corners[faces].mean(axis=1)) & reached[faces].all(axis=1)]
    if not len(faces):
        raise UserError(f"the scene has no surface of density {level:.3g} that a view shows")
    vertices, faces = largest_parts(points.numpy(), faces)
    points = torch.from_numpy(vertices)
    colours = field.query(points[None], "fine").colour[0]
    return Mesh(vertices, faces, colours.numpy().clip(0, 1))


def _stored(field: BakedField, places: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Tell which places on the grid are in stored bricks: elsewhere surfaces mark where knowledge ends."""
    x, y, z = (places // BRICK).astype(int).clip(0, len(field.bricks) - 1).T
    return field.bricks.numpy()[z, y, x] >= 0


def largest_parts(
    vertices: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"], share: float = LEAST_SHARE
) -> tuple[Float[np.ndarray, "m 3"], Int[np.ndarray, "g 3"]]:
    """Leave out the parts of a mesh that have fewer triangles than a share of the largest part's."""
    ends = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(ends), dtype=bool), tuple(ends.T)), shape=(len(vertices),) * 2)
    _, part = connected_components(graph, directed=False)
    sizes = np.bincount(part[faces[:, 0]])
    faces = faces[sizes[part[faces[:, 0]]] >= share * sizes.max()]
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)
