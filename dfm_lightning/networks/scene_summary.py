"""The properties of a scene as a whole: a vector, and a few colours."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.dit import zero_parameters


class SceneSummary(nn.Module):
    """Summarise all views of a scene, and choose the colours that its points share.

    What is hidden is one colour or another for a whole side of an object, and a network that decides point by
    point paints a mixture. Here noisy pixels are averaged over the whole view before anything is decided, and the
    decision is one vector and one set of colours for all points.

    Its influence on the vectors starts at zero: a denoiser trained without it can go on with it.

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


class PooledColours(nn.Module):
    """Colours that all points of a scene share, each the mean of some pixels of a view.

    What no view shows is often coloured as what one view shows: the back of an object, seen from its side. Learned
    queries find such pixels by their features (attention), and what they pass on are colours that are there, not
    predicted ones. A mean over many pixels is also less noisy than any of them.

    Args:
        features: channels of a pixel's features, without its colour.
        condition: length of the vector that the queries are made from.
        colours: number of colours.
        width: length of queries and keys.
    """

    def __init__(self, features: int, condition: int, colours: int, width: int = 32) -> None:
        super().__init__()
        self.keys = nn.Linear(features + 3, width)
        self.queries = nn.Linear(condition, width * colours)
        self.number = colours

    def forward(self, maps: Float[Tensor, "b h w f"], vector: Float[Tensor, "b c"]) -> Float[Tensor, "b k 3"]:
        """Return the colours; the last three channels of `maps` are the pixels' own, in [0, 1]."""
        keys = self.keys(maps.to(vector.dtype)).flatten(1, 2)
        queries = self.queries(vector).unflatten(-1, (self.number, -1))
        weights = (queries @ keys.mT / keys.shape[-1] ** 0.5).float().softmax(dim=-1)
        return weights @ maps[..., -3:].flatten(1, 2).float()
