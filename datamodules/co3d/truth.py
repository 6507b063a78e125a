"""The truth of a synthetic scene's evaluation views: the look of its hidden part, and distances."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.co3d.frames import read_depth
from datamodules.co3d.reader import Co3DScene
from datamodules.hidden_looks import HIDDEN_MASKS, HiddenLooks
from datamodules.posed.scenes import Scene
from dfm_lightning.geometry.images import centre_box, crop_intrinsics


def known_of_views(looks: HiddenLooks, scene: Scene, positions: list[int], size: int) -> dict[str, Tensor]:
    """Read the entries of `Batch.truth` for views at positions of a sequence; none for an unknown scene.

    Raises:
        UnreadableError: a mask or a depth map is missing or damaged.
    """
    assert isinstance(scene, Co3DScene)
    frames = [scene.source.sequence.frames[position] for position in positions]
    masks = [frame.path.parent.parent / HIDDEN_MASKS / f"{frame.path.stem}.png" for frame in frames]
    truth = looks.truth(scene.key, masks, size)
    if not truth:
        return {}
    return {**truth, "distance": torch.stack([read_distance(scene, position, size) for position in positions])}


def valid_of_views(scene: Scene, positions: list[int], size: int) -> dict[str, Tensor]:
    """Mark the parts of object crops that lie in their pictures. Raises UnreadableError."""
    assert isinstance(scene, Co3DScene)
    assert scene.crop is not None
    frames = [scene.source.sequence.frames[position] for position in positions]
    return {"valid": torch.stack([scene.crop.valid(frame, size) for frame in frames])}


def read_distance(scene: Co3DScene, position: int, size: int) -> Float[Tensor, "1 {size} {size}"]:
    """Read distances along the rays through the pixels of a frame's square view, in scene units; 0 if unknown.

    Each is taken from the depth map's pixel that the ray passes through. Raises UnreadableError.
    """
    frame = scene.source.sequence.frames[position]
    depth, known = read_depth(frame.path.parents[3], frame)
    height, width = depth.shape
    box = centre_box(width, height)
    centres = (np.arange(size) + 0.5) / size
    columns = (box.left + centres * (box.right - box.left)).astype(int)
    rows = (box.top + centres * (box.bottom - box.top)).astype(int)
    chosen = np.where(known, depth, 0)[np.ix_(rows, columns)]
    intrinsics = crop_intrinsics(scene.intrinsics[position], box, width, height).double()
    x, y = torch.meshgrid(*[torch.from_numpy(centres)] * 2, indexing="xy")
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ torch.linalg.inv(intrinsics).T
    scale = scene.target_scale / scene.source.scale.value
    return (torch.from_numpy(chosen).double() * rays.norm(dim=-1) * scale).float()[None]
