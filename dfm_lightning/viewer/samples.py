"""Baked samples, viewed side by side by one camera."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dfm_lightning.baking import BakedScene, load_scene
from dfm_lightning.callbacks.output import colour_map, images_to_uint8
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import build_cameras
from dfm_lightning.types import map_tensors


class Samples(NamedTuple):
    """The samples of one scene: names, baked scenes, and the angle of frames from top to bottom, in radians."""

    names: list[str]
    scenes: list[BakedScene]
    vertical: float


def find_samples(folder: Path) -> Samples:
    """Read the baked samples of one scene, below a folder that `dfm predict --export scene` has written.

    Raises:
        UserError: there are none, or they belong to several scenes.
    """
    paths = sorted(folder.rglob("scene.safetensors"))
    if not paths:
        raise UserError(f"no baked scene in {folder}: dfm predict --export scene writes them")
    scenes = sorted({path.parent.parent for path in paths})
    if len(scenes) > 1:
        names = ", ".join(str(scene) for scene in scenes)
        raise UserError(f"{folder} holds samples of several scenes: name one of {names}")
    cameras = json.loads((paths[0].parent / "transforms.json").read_text(encoding="utf-8"))
    vertical = 2 * np.arctan(cameras["h"] / 2 / cameras["frames"][0]["fl_y"])
    return Samples([path.parent.name for path in paths], [load_scene(path) for path in paths], float(vertical))


@torch.no_grad()
def side_by_side(
    scenes: list[BakedScene],
    camera_to_world: Float[Tensor, "4 4"],
    vertical: float,
    aspect: float,
    height: int,
    depth: float = 0.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Render scenes beside each other, each in a column, seen by the same camera.

    Args:
        scenes: one or more.
        camera_to_world: the camera's pose (x right, y down, z forward), in scene units.
        vertical: angle between the top and the bottom of the picture, in radians.
        aspect: width of the whole picture, of all columns, by its height.
        height: pixels from top to bottom.
        depth: share of the depth's colours in the picture, 0 to 1; blue is near, as in `depth.mp4`.
    """
    width = max(2, round(height * aspect / len(scenes)))
    focal = 0.5 / np.tan(vertical / 2)
    intrinsics = torch.tensor([[focal * height / width, 0, 0.5], [0, focal, 0.5], [0, 0, 1]], dtype=torch.float32)
    pose = camera_to_world[None].float()
    cameras = build_cameras(pose, intrinsics[None], torch.eye(4), height, width)
    cameras = map_tensors(lambda tensor: tensor[None], cameras)
    columns = []
    for scene in scenes:
        observed = scene.renderer.observe(scene.field, cameras)
        picture = images_to_uint8(observed.observation[0])[0]
        if depth > 0:
            colours = colour_map(observed.auxiliary.depth[0, 0], scene.renderer.near, scene.renderer.far)[0]
            picture = ((1 - depth) * picture + depth * colours).round().astype(np.uint8)
        columns.append(picture)
    return np.concatenate(columns, axis=1)
