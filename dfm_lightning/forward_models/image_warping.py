"""Motion's forward model: an image forward-warped along a part of its motion (DFM section 4, supplement 2.2)."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.forward_models.splatting import splat_softmax
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.signals import Motion
from dfm_lightning.types import Moment, Observed, at_least_float32

HoleFilling = Literal["blank", "still", "backward"]

# A pixel that receives less than this share of a pixel counts as a partial hole, one that receives nothing as a
# full hole. Below 1, so that a growing surface does not become transparent.
_FULL = 0.5


class WarpingDetails(NamedTuple):
    """The share of each pixel of an observation that was moved there: 0 in holes, at most 1."""

    coverage: Float[Tensor, "b v 1 h w"]


class ImageWarping(ForwardModel[Motion, Moment]):
    """Move the pixels of an image by softmax splatting (Niklaus and Liu 2020), and fill the holes they leave.

    The motion is uniform: at time t each pixel has moved t times its flow.

    Args:
        holes: the content of holes. "blank": nothing (0, grey). "still": the image at this place, as if the pixel
            had been left behind. "backward": the image at the place that this place's own flow, reversed, points
            to.
    """

    def __init__(self, holes: HoleFilling = "still") -> None:
        super().__init__()
        self.holes: HoleFilling = holes

    def forward(self, signal: Motion, params: Moment) -> Float[Tensor, "b v 3 h w"]:
        """See `ForwardModel`."""
        return self.observe(signal, params).observation

    def observe(self, signal: Motion, params: Moment) -> Observed:
        """Return the warped images and their `WarpingDetails`."""
        views = params.time.shape[1]
        image = params.image.flatten(0, 1)
        with torch.autocast(image.device.type, enabled=False):
            # In one precision, at least float32: motion and image may come in different ones.
            dtype = at_least_float32(signal.flow)
            dtype = torch.promote_types(dtype, image.dtype)
            image = image.to(dtype)
            flow, importance = (part.to(dtype).repeat_interleave(views, dim=0) for part in signal)
            flow = flow * params.time.flatten().to(dtype)[:, None, None, None]
            # One more channel, the inverse weight, whose weighted sum is the unweighted amount that has arrived.
            splatted = splat_softmax(torch.cat([image, (-importance).exp()], dim=1), flow, importance)
            warped, inverse_weight = splatted.image[:, :-1], splatted.image[:, -1:]
            coverage = (inverse_weight * splatted.weight / _FULL).clamp(max=1)
            observation = coverage * warped + (1 - coverage) * self._filling(image, flow)
        size = params.image.shape[:2]
        return Observed(observation.unflatten(0, size), WarpingDetails(coverage.unflatten(0, size)))

    def _filling(
        self, image: Float[Tensor, "n 3 h w"], flow: Float[Tensor, "n 2 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        if self.holes == "blank":
            return torch.zeros_like(image)
        return image if self.holes == "still" else warp_backward(image, flow)


def warp_backward(image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n c h w"]:
    """Sample the image at each pixel's place minus its flow, bilinearly; use the nearest edge pixel outside the
    frame.
    """
    height, width = image.shape[2:]
    x = torch.arange(width, device=flow.device) - flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] - flow[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)
