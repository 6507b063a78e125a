"""Baked scenes as files, and rendered."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dfm_lightning.baking.bake import bake, seen_points
from dfm_lightning.baking.baked_field import CORNERS, BakedField
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.scene_grids import CubeFrame
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, map_tensors, select_views

_KIND = "dfm-lightning baked scene"
_VERSION = 1
_RENDERER = ("near", "far", "coarse_samples", "fine_samples", "spacing", "background")


class BakedScene(NamedTuple):
    """A baked field, and what renders it as its model would: the same points on each ray, exact pixel centres."""

    field: BakedField
    renderer: VolumeRendering


def bake_scene(
    field: RadianceField,
    renderer: VolumeRendering,
    cameras: Cameras,
    depth: Float[Tensor, "v 1 h w"],
    opacity: Float[Tensor, "v 1 h w"],
    resolution: int = 192,
) -> BakedScene:
    """Bake the field of one scene, given its views with the depth and opacity of their rendering; on the CPU.

    See `bake`. The renderer is one for exact pixel centres, as `VolumeRendering.centred` gives it.
    """
    baked = bake(field, renderer, cameras, seen_points(cameras, depth, opacity), resolution)
    return BakedScene(map_tensors(lambda tensor: tensor.cpu(), baked), renderer)


@torch.no_grad()
def render_scene(scene: BakedScene, cameras: Cameras) -> Float[Tensor, "v 3 h w"]:
    """Render the images in [-1, 1] of one scene's cameras, a batch of one with exact pixel centres."""
    views = range(cameras.pixels.shape[1])
    images = [scene.renderer(scene.field, select_views(cameras, slice(view, view + 1)))[0] for view in views]
    return torch.cat(images)


def save_scene(scene: BakedScene, path: Path) -> None:
    """Write a scene as a safetensors file; values are rounded to float16."""
    tensors = {
        "to_cube": scene.field.frame.to_cube.float(),
        "bricks": scene.field.bricks.int(),
        "values": scene.field.values.clamp(max=torch.finfo(torch.float16).max).half(),
    }
    settings: dict[str, Any] = {name: getattr(scene.renderer, name) for name in _RENDERER}
    settings |= {"kind": _KIND, "version": _VERSION, "inner": scene.field.frame.inner}
    with whole_file(path) as aside:
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, aside, metadata={"scene": json.dumps(settings)})


def load_scene(path: Path) -> BakedScene:
    """Read a scene that `save_scene` has written.

    Raises:
        UserError: it is not such a file, or a newer version wrote it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {}).get("scene", "{}"))
            if settings.pop("kind", None) != _KIND:
                raise UserError(f"{path} is not a baked scene: dfm predict --export scene writes them")
            if settings.pop("version") > _VERSION:
                raise UserError(f"{path} was written by a newer version of this program")
            inner = settings.pop("inner")
            bricks, values = file.get_tensor("bricks").long(), file.get_tensor("values").float()
            frame = CubeFrame(file.get_tensor("to_cube"), inner)
        renderer = VolumeRendering(**{**settings, "background": tuple(settings["background"])})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a baked scene: {error}") from error
    if values.ndim != 3 or values.shape[1] != CORNERS or int((bricks >= 0).sum()) != len(values):
        raise UserError(f"{path} cannot be read as a baked scene: its bricks and values do not fit together")
    return BakedScene(BakedField(frame, bricks, values), renderer.eval())
