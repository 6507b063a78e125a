"""Tiny inverse graphics: a denoiser whose scenes are coloured balls, and cameras around them."""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.denoisers.scene_denoiser import SceneDenoiser
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.signals import FieldStage, FieldValues
from dfm_lightning.types import Batch, Cameras, Level, Request, Views, map_tensors

SIZE = 8


class BallField(NamedTuple):
    """A ball of radius 1 and one colour in front of the reference camera."""

    colour: Float[Tensor, "b 3"]
    centre: Float[Tensor, "b 3"]

    @property
    def floats_per_point(self) -> int:
        return 8

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        inside = (points - self.centre[:, None]).norm(dim=-1) < 1
        colour = self.colour[:, None].expand_as(points)
        return FieldValues(colour, inside.to(points) * 5, points[..., :0])


class BallConditioning(NamedTuple):
    context: Float[Tensor, "b 3"]
    estimate: Float[Tensor, "b 1 c h w"]


class BallDenoiser(SceneDenoiser[BallConditioning]):
    """The ball has the mean colour of context and noisy target; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))
        self.idle = nn.Parameter(torch.ones(2))
        self.conditioned_on: list[int] = []
        self.calls = 0

    def condition(self, context: Views, target_params: Cameras) -> BallConditioning:
        self.conditioned_on.append(context.observation.shape[1])
        colour = context.observation.mean(dim=(1, 3, 4)) + self.bias
        height, width = target_params.pixels.shape[2:4]
        estimate = torch.cat([colour, colour.new_zeros(len(colour), 1)], dim=1)
        return BallConditioning(colour, estimate[:, None, :, None, None].expand(-1, 1, 4, height, width))

    def forward(
        self, noisy: Float[Tensor, "b 1 3 h w"], level: Level, conditioning: BallConditioning
    ) -> BallField:
        self.calls += 1
        return self._ball(conditioning.context + noisy.mean(dim=(1, 3, 4)) + self.bias)

    def deterministic_field(self, context: Views) -> BallField:
        return self._ball(context.observation.mean(dim=(1, 3, 4)))

    def adopt_deterministic_mlp(self) -> None:
        """There is no MLP."""

    def _ball(self, logits: Float[Tensor, "b 3"]) -> BallField:
        centre = torch.tensor([0.0, 0.0, 3.0]).to(logits).expand_as(logits)
        return BallField(logits.sigmoid(), centre)


def renderer() -> VolumeRendering:
    return VolumeRendering(near=1.0, far=5.0, coarse_samples=8, fine_samples=8, patch_size=4)


def cameras(count: int, size: int = SIZE) -> Cameras:
    """Around the ball on a circle, the first at the reference pose (no batch dimension)."""
    angle = torch.arange(count) / count * 2 * torch.pi
    position = torch.stack([3 * angle.sin(), torch.zeros(count), -3 * angle.cos()], dim=1)
    poses = look_at(position, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    intrinsics = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]).expand(count, 3, 3)
    return build_cameras(poses, intrinsics, poses[0], size, size)


def views(key: str, where: Cameras) -> Views:
    """Images with values of their own for each key."""
    generator = torch.Generator().manual_seed(sum(key.encode()))
    count, height, width, _ = where.pixels.shape
    return Views(torch.rand(count, 3, height, width, generator=generator) * 2 - 1, where)


def batch(keys: list[str], contexts: int = 1, novel: int = 2) -> Batch:
    total = contexts + 1 + novel
    scenes = [views(key, cameras(total)) for key in keys]
    stacked: Views = map_tensors(lambda *tensors: torch.stack(tensors), *scenes)
    ends = [0, contexts, contexts + 1, total]
    parts = [map_tensors(lambda t, a=a, b=b: t[:, a:b], stacked) for a, b in pairwise(ends)]
    return Batch(*parts, key=keys, truth={})


def request(keys: list[str], frames: int = 6, size: int = SIZE) -> Request:
    scenes = [(views(key, cameras(1)), cameras(frames, size)) for key in keys]
    context, params = map_tensors(lambda *tensors: torch.stack(tensors), *scenes)
    return Request(context, params, keys)
