"""The three transformers that put epipolar features together: over views, over depths, over views."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.geometry.epipolar import EpipolarPoints, pluecker
from dfm_lightning.networks.embeddings import harmonic_embedding
from dfm_lightning.ranges import check_at_least, check_below_one
from dfm_lightning.record import Recorded

# Numbers of a ray's Plücker coordinates.
_PLUECKER = 6


class EpipolarFeatures(NamedTuple):
    """The colours in [0, 1] and features of n rays, and the weights behind them.

    `depth_weights` sum to 1 over the depths of a ray, `view_weights` over the context views.
    """

    colour: Float[Tensor, "b n 3"]
    features: Float[Tensor, "b n c"]
    depth_weights: Float[Tensor, "b v n d"]
    view_weights: Float[Tensor, "b v n"]


class SequenceTransformer(nn.Module):
    """A linear layer with GELU, and a transformer encoder without positional encoding and last norm.

    Args:
        inputs: width of the tokens that go in.
        width: width of the layers, of their feed-forward parts too.
        layers: number of encoder layers (post-norm, ReLU).
        heads: attention heads.
        dropout: probability of dropping, as PyTorch's layers have it.
    """

    def __init__(self, inputs: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.Linear(inputs, width), nn.GELU())
        layer = nn.TransformerEncoderLayer(width, heads, width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens: Float[Tensor, "*b s i"]) -> Float[Tensor, "*b s w"]:
        """Let the s tokens of each sequence look at each other."""
        entered = self.entry(tokens)
        return self.encoder(entered.flatten(0, -3)).view(entered.shape)


class EpipolarAggregation(Recorded, nn.Module):
    """Predicts colour and features of rays from what context views show along them (SparseFusion, A.1).

    Any number of context views; their order does not matter.

    Args:
        feature_channels: channels of what is looked up in the context views, colour not counted.
        width: width of the transformers, and of the features that come out.
        layers: encoder layers of each transformer.
        heads: their attention heads.
        depths: points of each ray.
        octaves: frequencies of the harmonic embeddings of rays and depths.
        dropout: probability of dropping in training.
        linear_colour: whether the colour is a linear function of the features, as in the thesis, instead of its
            sigmoid, as in the code.
    """

    def __init__(
        self,
        feature_channels: int,
        width: int = 256,
        layers: int = 4,
        heads: int = 1,
        depths: int = 20,
        octaves: int = 6,
        dropout: float = 0.1,
        linear_colour: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, feature_channels=feature_channels, width=width, layers=layers, heads=heads)
        check_at_least(1, octaves=octaves)
        check_at_least(2, depths=depths)
        check_below_one(dropout=dropout)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads ({heads}), got {width}")
        self.width = width
        self.depths = depths
        self.octaves = octaves
        self.linear_colour = linear_colour
        ray, depth = (count * (2 * octaves + 1) for count in (_PLUECKER, 1))
        options = (width, layers, heads, dropout)
        self.over_views_at_points = SequenceTransformer(ray + depth + feature_channels + 3, *options)
        self.over_depths = SequenceTransformer(2 * ray + depth + width, *options)
        self.over_views = SequenceTransformer(2 * ray + width, *options)
        self.depth_weight = nn.Linear(width, 1)
        self.view_weight = nn.Linear(width, 1)
        self.colour = nn.Linear(width, 3)

    def forward(self, seen: Float[Tensor, "b v n d c"], points: EpipolarPoints) -> EpipolarFeatures:
        """Put together what was looked up: features, then colour in [0, 1], of each point in each context view."""
        query, reference, depth = self.embeddings(points, seen.dtype)
        shape = seen.shape[:4]
        depth = depth[:, None, None, :, :].expand(*shape, -1)
        query_at_points = query[:, None, :, None, :].expand(*shape, -1)
        # Sequences are the last dimension but one: b n d v, then b v n d, then b n v.
        tokens = torch.cat([reference, depth, seen], dim=-1).permute(0, 2, 3, 1, 4)
        tokens = self.over_views_at_points(tokens).permute(0, 3, 1, 2, 4)
        tokens = self.over_depths(torch.cat([query_at_points, reference, depth, tokens], dim=-1))
        depth_weights = self.depth_weight(tokens).softmax(dim=-2)
        tokens = (depth_weights * tokens).sum(dim=-2)
        # The ray to a point half-way stands for all rays from this view to the query ray.
        middle = reference[:, :, :, self.depths // 2]
        tokens = torch.cat([query[:, None].expand(*shape[:3], -1), middle, tokens], dim=-1)
        tokens = self.over_views(tokens.transpose(1, 2))
        view_weights = self.view_weight(tokens).softmax(dim=-2)
        features = (view_weights * tokens).sum(dim=-2)
        colour = self.colour(features)
        colour = colour if self.linear_colour else colour.sigmoid()
        return EpipolarFeatures(colour, features, depth_weights[..., 0], view_weights[..., 0].transpose(1, 2))

    def embeddings(
        self, points: EpipolarPoints, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "b n q"], Float[Tensor, "b v n d q"], Float[Tensor, "b d e"]]:
        """Embed the query rays, the rays from context cameras to the points, and the depths."""
        origins = points.centres[:, :, None, None]
        query = pluecker(torch.zeros_like(points.directions), F.normalize(points.directions, dim=-1))
        reference = pluecker(origins, F.normalize(points.points[:, None] - origins, dim=-1))
        # In the precision of the geometry: the highest frequency multiplies rounding by 32.
        embedded = (
            harmonic_embedding(part, self.octaves) for part in (query, reference, points.depths[..., None])
        )
        query, reference, depth = (part.to(dtype) for part in embedded)
        return query, reference, depth
