"""The MLP of a pixel-aligned radiance field (pixelNeRF), conditioned on diffusion levels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.dit import zero_parameters
from dfm_lightning.networks.embeddings import LevelSinusoids, positional_encoding

# What remains of the density's random weights where its bias is to decide.
_FAINT = 0.01


class ModulatedBlock(nn.Module):
    """x + fc1(relu(modulated(fc0(relu(x))))), with the modulation's scale and shift given from outside.

    Args:
        width: length of the vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc0 = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.fc0.weight)
        for parameter in (self.fc0.bias, *self.fc1.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b n d"], modulation: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b n d"]:
        """Transform the vectors of each element of the batch under its scale and shift."""
        # Scale and shift act on the output of fc0, so they are folded into its weights, which saves a pass over
        # the points.
        scale, shift = 1 + modulation[:, 0], modulation[:, 1]
        weight = scale[:, :, None] * self.fc0.weight
        bias = scale * self.fc0.bias + shift
        hidden = F.relu(torch.baddbmm(bias[:, None], F.relu(x), weight.mT), inplace=True)
        return torch.baddbmm(x, hidden, self.fc1.weight.mT.expand(len(x), -1, -1)).add_(self.fc1.bias)


class RadianceMLP(nn.Module):
    """An MLP from positions and features of points, seen by several views, to colour, density and features.

    The first blocks run for each view with that view's diffusion level; then the views are averaged, and the last
    blocks run with the level of the last view (the noisy target).

    Args:
        feature_channels: channels of the feature maps.
        width: length of the hidden vectors.
        output_features: number of features of a point besides colour and density.
        blocks: number of residual blocks.
        blocks_per_view: how many of them come before the mean over the views.
        octaves: number of frequencies in the positional encoding.
        learned_weights: weigh views by what the blocks before say of them, and tell those after how much the views
            differ, instead of a plain mean over views. A mean at first.
        sources: number the views' pixels among the sources of a point's colour (see `BlendedField`): each view has
            a logit, and so has, last of the outputs, the point's own colour.
    """

    def __init__(
        self,
        feature_channels: int,
        width: int,
        output_features: int,
        blocks: int = 5,
        blocks_per_view: int = 3,
        octaves: int = 6,
        learned_weights: bool = False,
        sources: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.octaves = octaves
        self.blocks_per_view = blocks_per_view
        self.output_channels = 4 + output_features + (1 if sources else 0)
        # Two halves of one linear layer: interpolation between pixels is linear too, so the features' half is
        # applied to the maps once instead of to each point.
        self.position_in = nn.Linear(3 + 6 * octaves, width)
        self.feature_in = nn.Linear(feature_channels, width, bias=False)
        self.sinusoids = LevelSinusoids(width, "sine_first")
        self.level_mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width))
        self.modulations = nn.ModuleList(nn.Linear(4 * width, 2 * width) for _ in range(blocks))
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(blocks))
        self.output = nn.Linear(width, self.output_channels)
        self.view_weight = nn.Linear(width, 1) if learned_weights else None
        self.from_variance = nn.Linear(width, width, bias=False) if learned_weights else None
        self.source = nn.Linear(width, 1) if sources else None
        fan_in = 3 + 6 * octaves + feature_channels
        for layer in (self.position_in, self.feature_in):
            nn.init.normal_(layer.weight, std=(2 / fan_in) ** 0.5)
        nn.init.zeros_(self.position_in.bias)
        nn.init.kaiming_normal_(self.output.weight)
        for parameter in (self.output.bias, *self.modulations.parameters()):
            nn.init.zeros_(parameter)
        for part in (self.view_weight, self.from_variance, self.source):
            if part is not None:
                zero_parameters(part)

    def make_opaque(self) -> None:
        """Give all points a density of about one per scene unit, so that rays some units long end within it."""
        with torch.no_grad():
            self.output.weight[3].mul_(_FAINT)
            self.output.bias[3] = 1.0

    def project_maps(self, maps: Float[Tensor, "b v h w f"]) -> Float[Tensor, "b v h w d"]:
        """Compute the features' share in the first layer, for each pixel of the maps."""
        return self.feature_in(maps)

    def modulation(self, level: Int[Tensor, "b v"]) -> Float[Tensor, "b v k 2 d"]:
        """Compute scale and shift of each of the k blocks, for each view's diffusion level."""
        dtype = self.position_in.weight.dtype
        condition = F.silu(self.level_mlp(self.sinusoids(level, dtype)))
        return torch.stack([layer(condition).unflatten(-1, (2, -1)) for layer in self.modulations], dim=2)

    def forward(
        self,
        points: Float[Tensor, "b v n 3"],
        projected: Float[Tensor, "b v n d"],
        modulation: Float[Tensor, "b v k 2 d"],
    ) -> Float[Tensor, "b n o"]:
        """Compute colour (3), density (1) and features of each point, before any nonlinearity.

        `points` are in each view's camera axes, `projected` are the projected maps at the points.
        """
        return self.joined(self.merge(self.per_view(points, projected, modulation)), modulation[:, -1])

    def per_view(
        self,
        points: Float[Tensor, "b v n 3"],
        projected: Float[Tensor, "b v n d"],
        modulation: Float[Tensor, "b v k 2 d"],
    ) -> Float[Tensor, "b v n d"]:
        """Run the blocks before the mean over the views."""
        x = projected + self.position_in(positional_encoding(points, self.octaves))
        x = x.flatten(0, 1)
        for index, block in enumerate(self.blocks[: self.blocks_per_view]):
            x = block(x, modulation[:, :, index].flatten(0, 1))
        return x.view(projected.shape)

    def merge(self, each: Float[Tensor, "b v n d"]) -> Float[Tensor, "b n d"]:
        """Merge what the views know of each point: their mean, or their weighted mean with their variance."""
        if self.view_weight is None or self.from_variance is None:
            return each.mean(dim=1)
        share = self.view_weight(F.relu(each)).float().softmax(dim=1).to(each.dtype)
        mean = (each * share).sum(dim=1)
        variance = ((each - mean[:, None]).square() * share).sum(dim=1)
        return mean + self.from_variance(variance)

    def source_logits(self, each: Float[Tensor, "b v n d"]) -> Float[Tensor, "b v n"]:
        """Compute how much each view's pixel counts for the colour of each point; needs `sources`."""
        assert self.source is not None
        return self.source(F.relu(each))[..., 0]

    def joined(self, mean: Float[Tensor, "b n d"], modulation: Float[Tensor, "b k 2 d"]) -> Float[Tensor, "b n o"]:
        """Run the blocks after the mean over the views, under the modulation of the last view."""
        for index in range(self.blocks_per_view, len(self.blocks)):
            mean = self.blocks[index](mean, modulation[:, index])
        return self.output(F.relu(mean))

    @property
    def floats_per_point(self) -> int:
        """Estimate how many numbers a point seen by one view occupies during the computation."""
        return 4 * self.width + 2 * self.position_in.in_features
