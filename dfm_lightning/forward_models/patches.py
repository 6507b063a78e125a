"""Patch-based training: only a square of each image is rendered and compared."""

import torch
from jaxtyping import Int
from torch import Tensor

from dfm_lightning.types import Cameras, Views


def crop_patches(views: Views, top: Int[Tensor, " b"], left: Int[Tensor, " b"], height: int, width: int) -> Views:
    """Cut a rectangle out of each image of a scene, the same in all its views, and out of the cameras' pixels."""
    rows = top[:, None] + torch.arange(height, device=top.device)
    columns = left[:, None] + torch.arange(width, device=left.device)
    scene = torch.arange(len(top), device=top.device)[:, None, None]
    index = (scene, rows[:, :, None], columns[:, None, :])
    # Indexed dimensions first: b v c h w → b h w v c and b v h w 2 → b h w v 2, and back.
    observation = views.observation.permute(0, 3, 4, 1, 2)[index].permute(0, 3, 4, 1, 2)
    pixels = views.params.pixels.permute(0, 2, 3, 1, 4)[index].permute(0, 3, 1, 2, 4)
    cameras: Cameras = views.params._replace(pixels=pixels)
    return Views(observation, cameras)


def random_patches(views: Views, size: int) -> Views:
    """Cut a random square out of each scene's images; along a side shorter than `size`, all of it.

    Positions come from torch's global CPU generator.
    """
    batch, _, _, height, width = views.observation.shape
    sides = min(size, height), min(size, width)
    device = views.observation.device
    top, left = (
        torch.randint(whole - side + 1, (batch,)).to(device)
        for whole, side in zip((height, width), sides, strict=True)
    )
    return crop_patches(views, top, left, *sides)
