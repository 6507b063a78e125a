"""Decode a point's colour and density from features of a volume and of several views."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.dit import zero_parameters

# Logit of a view that does not see a point: next to no weight, but a gradient that is finite.
UNSEEN = -20.0
# What a point's density is at first, before softplus: a fog that most rays get through, so that all points learn.
_FIRST_DENSITY = -1.0
# Density per scene unit for an output of one, so that surfaces need no huge weights.
_DENSITY_SCALE = 20.0
# Logit of a colour of the scene at first: about a hundredth of the weight.
_FIRST_SCENE_CHOICE = -3.0
# What it is raised by for points that no view of the context sees, at first: to that of other strong choices.
_FIRST_HIDDEN_CHOICE = 8.0
# The power of a view's light at a point that its share of the point's colour has as a factor, at first.
_FIRST_OCCLUSION = 1.5
# The least light that counts: what is hidden stays possible.
_LEAST_LIGHT = 0.01


class PointViews(NamedTuple):
    """The views' content at the projections of n points into v views.

    `seen` tells which views see a point at all. `depth` is the logarithm of its depth, 0 at the middle of the
    scene. `colour` is in [0, 1].
    """

    features: Float[Tensor, "b v n f"]
    colour: Float[Tensor, "b v n 3"]
    depth: Float[Tensor, "b v n 1"]
    seen: Bool[Tensor, "b v n"]


class ContextLight(NamedTuple):
    """The share of its light that each view of the context gets of n points, in [0, 1]; they come first of views.

    `decided` tells the scenes whose hidden colours are known; in the others no point has them.
    """

    light: Float[Tensor, "b v n"]
    decided: Bool[Tensor, " b"]

    @property
    def hidden(self) -> Float[Tensor, "b n 1"]:
        """Return the share that no view gets."""
        return 1 - self.light.amax(dim=1)[..., None]


class PointDecoder(nn.Module):
    """A small MLP that gives points their density, and lets each choose its colour.

    A point's colour is a convex combination of the colours of the pixels that it projects to, of those of a
    palette that the whole scene shares, and of one of its own: copied colours are sharp after few iterations,
    where predicted ones are a blur. Views count by learned shares; their weighted mean and variance (whether they
    agree) are what the MLP sees of them, so that their number and order do not matter (as in IBRNet, Wang et al.
    2021, and MVSNeRF, Chen et al. 2021).

    Args:
        volume_channels: channels of the volume.
        view_channels: features of a view's pixel.
        level_channels: length of the vector of a view's diffusion level.
        palette: number of colours of the palette that come first, such as coarse colours of the context.
        width: length of the hidden vectors.
        scene_colours: number of further colours of the palette, chosen by a layer of its own that hardly chooses
            them at first. So a decoder that was trained without them can go on with them.
        hidden_colours: number of colours of what the context does not show, the last of the palette. They too
            have a layer of their own, and are chosen mainly where the context gets no light. Its views count less
            there.
    """

    def __init__(
        self,
        volume_channels: int,
        view_channels: int,
        level_channels: int,
        palette: int,
        width: int,
        scene_colours: int = 0,
        hidden_colours: int = 0,
    ) -> None:
        super().__init__()
        self.from_volume = nn.Linear(volume_channels, width)
        self.from_view = nn.Linear(view_channels + 3 + 1, width, bias=False)
        self.from_level = nn.Linear(level_channels, width, bias=False)
        self.each = nn.Linear(width, width)
        self.share = nn.Linear(width, 1)
        self.head = nn.Linear(3 * width + 3, width)
        self.output = nn.Linear(width, 4 + 1 + palette)
        self.scene_choice = nn.Linear(width, scene_colours) if scene_colours else None
        self.hidden_choice = nn.Linear(width + 1, hidden_colours) if hidden_colours else None
        self.from_hidden = nn.Linear(1, width, bias=False) if hidden_colours else None
        self.occlusion = nn.Parameter(torch.tensor(_FIRST_OCCLUSION)) if hidden_colours else None
        # Hidden vectors, what they are made of, and the steps between them.
        self.floats_per_point = 12 * width
        zero_parameters(self.share)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()
            self.output.bias[3] = _FIRST_DENSITY
            if self.scene_choice is not None:
                self.scene_choice.weight.mul_(0.1)
                self.scene_choice.bias.fill_(_FIRST_SCENE_CHOICE)
            if self.hidden_choice is not None and self.from_hidden is not None:
                zero_parameters(self.from_hidden)
                self.hidden_choice.weight.mul_(0.1)
                self.hidden_choice.weight[:, -1] = _FIRST_HIDDEN_CHOICE
                self.hidden_choice.bias.fill_(_FIRST_SCENE_CHOICE)

    def forward(
        self,
        volume: Float[Tensor, "b n c"],
        views: PointViews,
        level: Float[Tensor, "b v e"],
        summary: Float[Tensor, "b d"],
        palette: Float[Tensor, "b p 3"],
        light: ContextLight | None = None,
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"]]:
        """Predict colour in [0, 1] and density (per scene unit) of each point.

        `volume` is read at the points, `level` is a vector of each view's diffusion level, `summary` one of the
        scene's context, as long as the hidden vectors. `light` goes with `hidden_colours`.
        """
        base = self.from_volume(volume) + summary[:, None]
        if self.from_hidden is not None and light is not None:
            base = base + self.from_hidden(light.hidden)
        seen = torch.cat([views.features, views.colour, views.depth], dim=-1) * views.seen[..., None]
        each = self.from_view(seen) + self.from_level(level)[:, :, None] + base[:, None]
        each = F.relu(self.each(F.relu(each)))
        logit = self.share(each)[..., 0].float().masked_fill(~views.seen, UNSEEN)
        share = logit.softmax(dim=1)[..., None].to(each.dtype)
        mean = (each * share).sum(dim=1)
        variance = ((each - mean[:, None]).square() * share).sum(dim=1)
        mean_colour = (views.colour * share).sum(dim=1)
        colour_variance = ((views.colour - mean_colour[:, None]).square() * share).sum(dim=1)
        known = torch.cat([F.relu(base), mean, variance, colour_variance.to(mean.dtype)], dim=-1)
        vector = F.relu(self.head(known))
        out = self.output(vector).float()
        if self.occlusion is not None and light is not None:
            passed = self.occlusion * light.light.clamp(min=_LEAST_LIGHT).log()
            logit = torch.cat([logit[:, : passed.shape[1]] + passed, logit[:, passed.shape[1] :]], dim=1)
        choices = [logit.movedim(1, -1), out[..., 4:]]
        if self.scene_choice is not None:
            choices.append(self.scene_choice(vector).float())
        if self.hidden_choice is not None and light is not None:
            chosen = self.hidden_choice(torch.cat([vector, light.hidden.to(vector.dtype)], dim=-1)).float()
            choices.append(chosen.masked_fill(~light.decided[:, None, None], UNSEEN))
        choice = torch.cat(choices, dim=-1).softmax(dim=-1)
        count = logit.shape[1]
        colour = torch.einsum("bnv,bvnc->bnc", choice[..., :count], views.colour)
        colour = colour + choice[..., count : count + 1] * out[..., :3].sigmoid()
        colour = colour + choice[..., count + 1 :] @ palette
        return colour, F.softplus(5 * out[..., 3]) * (_DENSITY_SCALE / 5)
