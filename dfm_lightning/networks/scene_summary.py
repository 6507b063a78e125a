"""The properties of a scene as a whole: a vector, and a few colours."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.dit import zero_parameters


class SceneSummary(nn.Module):
    """Summarise all views of a scene, and choose the colours that its points share.

    The hidden side of an object has one colour or another as a whole, but a network that decides point by point
    paints a mixture. Here noisy pixels are averaged over the whole view first. Then one vector and one set of
    colours are chosen for all points.

    Its influence on the vectors starts at zero: a denoiser trained without it can continue with it.

    Args:
        image_channels: length of a view's summary (see `UNet.with_summary`).
        volume_channels: length of the volume's summary.
        condition: length of the vectors that condition networks.
        point_width: length of the points' hidden vectors.
        colours: number of colours.
    """

    def __init__(
        self, image_channels: int, volume_channels: int, condition: int, point_width: int, colours: int
    ) -> None:
        super().__init__()
        self.views = nn.Sequential(
            nn.Linear(2 * image_channels + condition, condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.to_condition = nn.Linear(condition, condition)
        self.to_points = nn.Linear(condition, point_width)
        self.to_colours = nn.Sequential(
            nn.Linear(condition + volume_channels, condition), nn.SiLU(), nn.Linear(condition, 3 * colours)
        )
        zero_parameters(self.to_condition)
        zero_parameters(self.to_points)

    def vector(
        self, context: Float[Tensor, "b e"], target: Float[Tensor, "b e"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b c"]:
        """Summarise the context's views (their mean) and the target (zero where there is none)."""
        return F.silu(self.views(torch.cat([context, target, condition], dim=-1)))

    def colours(self, vector: Float[Tensor, "b c"], volume: Float[Tensor, "b w"]) -> Float[Tensor, "b k 3"]:
        """Predict colours in [0, 1] of the scene from its vector and the summary of its volume."""
        found = self.to_colours(torch.cat([vector, volume], dim=-1))
        return found.float().sigmoid().unflatten(-1, (-1, 3))
