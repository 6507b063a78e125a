"""Turn images and cameras into batches and requests."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.posed.scenes import Scene
from dfm_lightning.geometry.cameras import build_cameras
from dfm_lightning.types import Batch, Request, Views, map_tensors


class Roles(NamedTuple):
    """Positions of frames in a scene, by role. The first context is the reference of all poses."""

    context: list[int]
    target: int
    novel: list[int]

    def positions(self) -> list[int]:
        """List all positions: context, target, novel."""
        return [*self.context, self.target, *self.novel]


class PosedImages(NamedTuple):
    """Square images in [-1, 1] with absolute camera-to-world poses and normalised intrinsics."""

    images: Float[Tensor, "v 3 s s"]
    camera_to_world: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "v 3 3"]

    def views(self, reference: Float[Tensor, "4 4"]) -> Views:
        """Return the images as observations, with poses relative to a reference camera."""
        size = self.images.shape[-1]
        cameras = build_cameras(self.camera_to_world, self.intrinsics, reference, size, size)
        return map_tensors(Tensor.float, Views(self.images, cameras))


def read_images(scene: Scene, positions: list[int], size: int, enlarged: float = 1.0) -> PosedImages:
    """Read frames of a scene, cropped to their central square and resized; scale lengths by `enlarged`.

    Raises:
        UnreadableError: one of them is missing or damaged.
    """
    read = [scene.view(position, size) for position in positions]
    images, intrinsics = (torch.stack(part) for part in zip(*read, strict=True))
    return PosedImages(images, scene.scaled_poses(enlarged)[positions], intrinsics)


def make_batch(key: str, posed: PosedImages, contexts: int, truth: dict[str, Tensor]) -> Batch:
    """Make a batch element (no batch dimension) from images in the order context, target, novel."""
    views = posed.views(reference=posed.camera_to_world[0])
    parts = slice(contexts), slice(contexts, contexts + 1), slice(contexts + 1, None)
    context, target, novel = (map_tensors(lambda tensor, p=part: tensor[p], views) for part in parts)
    # One element, whose key is a name; collation makes them a list.
    return Batch(context, target, novel, key, truth)  # type: ignore[arg-type]


def read_batch(scene: Scene, roles: Roles, size: int, enlarged: float = 1.0, masks: bool = False) -> Batch:
    """Read a scene's frames in their roles (no batch dimension); with `masks`, the truth holds foreground masks.

    Raises:
        UnreadableError: one of the files cannot be read.
    """
    positions, contexts = roles.positions(), len(roles.context)
    posed = read_images(scene, positions, size, enlarged)
    truth: dict[str, Tensor] = {}
    if masks:
        read = torch.stack([scene.mask(position, size) for position in positions])
        context, target, novel = read.split([contexts, 1, len(roles.novel)])
        truth = {"context_mask": context, "target_mask": target, "novel_mask": novel}
    return make_batch(scene.key, posed, contexts, truth)


def make_request(key: str, context: PosedImages, path: Float[Tensor, "n 4 4"], size: int) -> Request:
    """Make a request (no batch dimension) to render the scene along a path of absolute poses.

    The path's cameras share the lens of the first context camera; their images have `size` pixels a side.
    """
    reference = context.camera_to_world[0]
    cameras = build_cameras(path, context.intrinsics[:1].expand(len(path), 3, 3), reference, size, size)
    # One element, whose key is a name; collation makes them a list.
    return Request(context.views(reference), map_tensors(Tensor.float, cameras), key)  # type: ignore[arg-type]
