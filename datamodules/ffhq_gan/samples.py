"""The interface of a generator, the visible patches of its images, and the batches made of both."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.geometry.images import Box
from dfm_lightning.types import Batch, Request, Views


@runtime_checkable
class ImageGenerator(Protocol):
    """A generator that draws a code and its image for each seed.

    `fingerprint` identifies this generator; `truncation` says how far its codes are pulled to their mean.
    """

    fingerprint: str
    truncation: float

    # Not jaxtyping: the command line compares annotations before it accepts a class, and no two of jaxtyping's are
    # equal.
    def draw(self, seeds: Sequence[int], device: torch.device) -> Any:
        """Draw the code of each seed [b w_dim], and its image [b 3 h w] in [-1, 1], on a device."""


class SeedItem(NamedTuple):
    """A sample still to be drawn, and the mask of its visible patch."""

    seed: Int[Tensor, "*b"]
    mask: Float[Tensor, "*b 1 h w"]


class StoredItem(NamedTuple):
    """A sample from the cache, and the mask of its visible patch."""

    seed: Int[Tensor, "*b"]
    mask: Float[Tensor, "*b 1 h w"]
    image: UInt8[Tensor, "*b 3 h w"]
    code: Float[Tensor, "*b w_dim"]


def patch_mask(
    resolution: int, sides: tuple[int, int], generator: torch.Generator | None = None
) -> Float[Tensor, "1 h w"]:
    """Make a mask that is one in a random square and zero elsewhere. Side and position are uniform.

    Args:
        resolution: height and width of the image.
        sides: least and greatest side of the square, in pixels.
        generator: source of randomness; torch's global generator by default.
    """
    side = int(torch.randint(sides[0], sides[1] + 1, (), generator=generator))
    left, top = torch.randint(0, resolution - side + 1, (2,), generator=generator).tolist()
    mask = torch.zeros(1, resolution, resolution)
    mask[:, top : top + side, left : left + side] = 1
    return mask


def box_mask(resolution: int, box: Box, square: Box) -> Float[Tensor, "1 h w"]:
    """Make a mask of a square part of a picture, one at pixels whose centres lie in a box of that picture.

    Raises:
        UserError: there are none.
    """
    steps = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    x = square.left + steps * (square.right - square.left)
    y = square.top + steps * (square.bottom - square.top)
    columns, rows = (x >= box.left) & (x < box.right), (y >= box.top) & (y < box.bottom)
    mask = (rows[:, None] & columns).float()[None]
    if mask.sum() == 0:
        raise UserError(
            f"the box {tuple(box)} (left, top, right, bottom) holds no pixel of the picture's central square, "
            f"which is {tuple(square)}"
        )
    return mask


def masked(images: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b 1 h w"]) -> Views:
    """Mask images, one view each: make the context of GAN inversion."""
    return Views((images * masks)[:, None], masks[:, None])


def batch_of(
    images: Float[Tensor, "b 3 h w"],
    codes: Float[Tensor, "b w_dim"],
    masks: Float[Tensor, "b 1 h w"],
    keys: list[str],
) -> Batch:
    """Make a batch: patches as context, whole images as targets, no novel views; codes for evaluation only."""
    target = masked(images, torch.ones_like(masks))
    novel = Views(target.observation[:, :0], target.params[:, :0])
    return Batch(masked(images, masks), target, novel, keys, {"code": codes})


def request_of(images: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b 1 h w"], keys: list[str]) -> Request:
    """Make a request: patches as context, the whole image as the observation asked for."""
    return Request(masked(images, masks), torch.ones_like(masks)[:, None], keys)
