"""Perturbed attention, against attention that is masked to the diagonal, and guidance written out."""

import copy
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.denoisers import ImageToMotion, MLPDenoiser, PixelNeRFDenoiser
from dfm_lightning.diffusion import DDIM, PerturbedAttention
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import ImageWarping, VolumeRendering
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.dit import DiT, without_attention
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.tasks import MotionPrediction
from dfm_lightning.types import Cameras, Moment, Views

BATCH, SIDE = 2, 8


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    torch.manual_seed(0)


def filled(module: Any) -> Any:
    """A module whose parameters are random, none of them zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.15)
    return module.eval()


class MaskedAttention(nn.Module):
    """Attention of the same weights in which a token may look at itself alone."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.whole = attention

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        heads = self.whole.num_heads
        query, key, value = (
            part.unflatten(2, (heads, -1)).transpose(1, 2) for part in self.whole.qkv(tokens).chunk(3, dim=2)
        )
        only = torch.eye(tokens.shape[1], dtype=torch.bool)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=only)
        return self.whole.proj(seen.transpose(1, 2).flatten(2))


def masked(module: Any, blocks: list[int]) -> Any:
    """A copy in which the attention of some blocks is masked."""
    other = copy.deepcopy(module)
    for core in [part for part in other.modules() if isinstance(part, DiT)]:
        for number in blocks:
            block: Any = core.blocks[number]
            block.attn = MaskedAttention(block.attn)
    return other


@pytest.mark.parametrize(("blocks", "same"), [(None, [1]), ([0], [0]), ([0, 2], [0, 2])])
def test_a_token_sees_itself_alone_while_it_is_open(blocks: list[int] | None, same: list[int]) -> None:
    core = filled(DiT(16, 3, 2))
    tokens, condition = torch.randn(BATCH, 5, 16), torch.randn(BATCH, 16)
    plain = core(tokens, condition)
    with without_attention(core, blocks):
        perturbed = core(tokens, condition)
    torch.testing.assert_close(perturbed, masked(core, same)(tokens, condition), rtol=0, atol=1e-5)
    assert (perturbed - plain).abs().max() > 1e-2
    assert torch.equal(core(tokens, condition), plain)
    with pytest.raises(RuntimeError), without_attention(core, blocks):
        raise RuntimeError
    assert torch.equal(core(tokens, condition), plain)


def motion_model(**settings: Any) -> MotionPrediction:
    denoiser = filled(ImageToMotion(width=16, depth=3, heads=2))
    return MotionPrediction(denoiser, ImageWarping(), sampler=DDIM(3), **settings).eval()


def moments() -> tuple[Views, Moment]:
    image = torch.rand(BATCH, 1, 3, SIDE, SIDE) * 2 - 1
    return Views(image, Moment(image, torch.zeros(BATCH, 1))), Moment(image, torch.ones(BATCH, 1))


def test_signals_are_guided_away_from_the_perturbed_ones() -> None:
    model = motion_model(perturbed_attention=PerturbedAttention(1.5, [0, 2]))
    context, target = moments()
    noisy, level = torch.randn(BATCH, 1, 3, SIDE, SIDE), torch.tensor([300, 800])
    found = model.observation_denoiser(context, target, BATCH)(noisy, level)
    conditioning = model.denoiser.condition(context, target)
    plain, worse = (each(noisy, level, conditioning) for each in (model.denoiser, masked(model.denoiser, [0, 2])))
    flow = plain.flow + 1.5 * (plain.flow - worse.flow)
    assert (plain.flow - worse.flow).abs().max() > 1e-2
    torch.testing.assert_close(found.source.flow, flow, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.clean, model.forward_model(found.source, target))


def test_it_costs_two_evaluations_of_the_denoiser_for_one() -> None:
    context, target = moments()
    names: list[tuple[str | int, ...]] = [("sample", scene) for scene in range(BATCH)]
    calls = []
    for guidance in (None, PerturbedAttention()):
        model = motion_model(perturbed_attention=guidance)
        with mock.patch.object(model.denoiser.network, "forward", wraps=model.denoiser.network.forward) as network:
            drawn = model.sample(context, target, names, (3, SIDE, SIDE))
        calls.append(network.call_count)
        torch.testing.assert_close(drawn.observation, model.forward_model(drawn.signal, target))
    assert calls == [3, 6]


def scene_model() -> Iterator[tuple[DiffusionWithForwardModel, Views, Cameras]]:
    for guidance in (None, PerturbedAttention(2.0)):
        torch.manual_seed(0)
        encoder = ImageEncoder(width=16, depth=1, heads=2, feature_channels=4)
        estimate = VolumeRendering(1.0, 5.0, coarse_samples=4, fine_samples=0)
        denoiser = filled(PixelNeRFDenoiser(encoder, estimate, mlp_width=8, mlp_blocks=2, mlp_blocks_per_view=1))
        renderer = VolumeRendering(1.0, 5.0, coarse_samples=6, fine_samples=4)
        ticks = (torch.arange(SIDE) + 0.5) / SIDE
        pixels = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1).expand(1, 1, SIDE, SIDE, 2)
        pose = torch.eye(4).expand(1, 1, 4, 4)
        cameras = Cameras(pose, torch.eye(3).expand(1, 1, 3, 3), pose, pixels)
        context = Views(torch.rand(1, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)), cameras)
        yield (
            DiffusionWithForwardModel(denoiser, renderer, sampler=DDIM(2), perturbed_attention=guidance).eval(),
            context,
            cameras,
        )


def test_scenes_are_guided_point_by_point_and_the_observation_is_that_of_the_scene() -> None:
    observations = []
    for model, context, cameras in scene_model():
        drawn = model.sample(context, cameras, [("sample", 0)], (3, SIDE, SIDE))
        torch.testing.assert_close(
            drawn.observation, model.forward_model(drawn.signal, cameras), rtol=0, atol=1e-5
        )
        observations.append(drawn.observation)
    assert (observations[0] - observations[1]).abs().max() > 1e-4


def test_what_cannot_be_perturbed_is_refused() -> None:
    with pytest.raises(UserError, match="MLPDenoiser"):
        DiffusionWithForwardModel(MLPDenoiser(4, [2]), ImageWarping(), perturbed_attention=PerturbedAttention())
    with pytest.raises(UserError, match=r"blocks.*\b2\b.*\b3\b"):
        motion_model(perturbed_attention=PerturbedAttention(1.0, [3]))
    with pytest.raises(UserError, match="guidance_scale"):
        motion_model(perturbed_attention=PerturbedAttention(), guidance_scale=2.0)
