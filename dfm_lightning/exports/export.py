"""The formats that a sampled scene is written in."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from dfm_lightning.baking import BakedScene, save_scene
from dfm_lightning.exports.glb import write_glb
from dfm_lightning.exports.mesh import surface
from dfm_lightning.exports.ply import write_ply
from dfm_lightning.exports.point_cloud import point_cloud
from dfm_lightning.exports.splats import splats, write_splats
from dfm_lightning.types import Cameras

Export = Literal["scene", "mesh", "pointcloud", "splats"]
KINDS: tuple[Export, ...] = get_args(Export)
# At most so many views decide which parts of a scene are seen.
_VIEWS = 12
# From the scene's axes (y down, z forward) to those of glTF and most programs for meshes (y up, z backward).
_Y_UP = np.array([1, -1, -1], dtype=np.float32)


@torch.no_grad()
def export_scene(scene: BakedScene, cameras: Cameras, kinds: list[Export], folder: Path) -> None:
    """Write a baked scene into a folder, in each of some formats.

    "scene": `scene.safetensors`, the baked scene itself. "mesh": `mesh.glb`, the surface with colours at its
    vertices. "pointcloud": `points.ply`. "splats": `splats.ply`, Gaussians. Lengths are in scene units, the origin
    is the first context camera. Mesh and points have the axes of OpenGL (y up), Gaussians COLMAP's (y down).

    Args:
        scene: the scene, on the CPU.
        cameras: a batch of one, the views that say what is seen; pixel centres exact.
        kinds: the formats.
        folder: where to write.
    """
    views = cameras.pixels.shape[1]
    chosen = [view * views // min(views, _VIEWS) for view in range(min(views, _VIEWS))]
    if "scene" in kinds:
        save_scene(scene, folder / "scene.safetensors")
    if "mesh" in kinds:
        vertices, faces, colours = surface(scene, cameras)
        write_glb(folder / "mesh.glb", vertices * _Y_UP, faces, colours)
    if "pointcloud" in kinds:
        points, shown = (tensor.numpy() for tensor in point_cloud(scene, cameras))
        columns = dict(zip("xyz", (points * _Y_UP).astype(np.float32).T, strict=True))
        rgb = (shown.clip(0, 1) * 255).round().astype(np.uint8)
        columns |= dict(zip(("red", "green", "blue"), rgb.T, strict=True))
        write_ply(folder / "points.ply", columns)
    if "splats" in kinds:
        seen = Cameras(*(tensor[:, chosen] for tensor in cameras))
        write_splats(folder / "splats.ply", splats(scene, seen))
