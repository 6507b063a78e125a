"""What a sampler calls: conditioning once, guidance in one batch, and the signal it leaves behind."""

from typing import NamedTuple

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion import DDIM, CosineProcess, GuidanceSpace, ObservationDenoiser
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.types import Level, Views


class Curve(NamedTuple):
    """A signal of two parts."""

    height: Float[Tensor, "b"]
    slope: Float[Tensor, "b"]


class Points(ForwardModel):
    """The curve's squared values at positions φ: not linear in the signal, so that guidance spaces differ."""

    def forward(self, signal: Curve, params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 1 1 1"]:
        return (signal.height[:, None] + signal.slope[:, None] * params).square()[..., None, None, None]


class Known(NamedTuple):
    context: Float[Tensor, "b"]
    position: Float[Tensor, "b"]


class CountingDenoiser(SignalDenoiser):
    """An arbitrary function of everything it is given, which keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.conditioned: list[Views] = []
        self.called: list[tuple[Tensor, Tensor, Known]] = []

    def condition(self, context: Views, target_params: Float[Tensor, "b 1"]) -> Known:
        self.conditioned.append(context)
        return Known(context.observation.flatten(1).sum(dim=1), target_params[:, 0])

    def forward(self, noisy: Float[Tensor, "b 1 1 1 1"], level: Level, conditioning: Known) -> Curve:
        self.called.append((noisy, level, conditioning))
        value = noisy.flatten() * (1 - level / 2000)
        return Curve(conditioning.context + value.tanh(), conditioning.position * value.cos())


SCENES, DRAWS = 2, 3


@pytest.fixture
def context() -> Views:
    return Views(torch.tensor([0.3, -0.5, 0.8, 0.1]).view(SCENES, 2, 1, 1, 1), torch.zeros(SCENES, 2))


@pytest.fixture
def positions() -> Tensor:
    return torch.tensor([[0.2], [0.7]])


@pytest.fixture
def noisy() -> Tensor:
    return torch.randn(SCENES * DRAWS, 1, 1, 1, 1, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def level() -> Tensor:
    return torch.full((SCENES * DRAWS,), 400)


def by_hand(context: Views, positions: Tensor, noisy: Tensor, level: Tensor) -> Curve:
    """The signals of each draw, one after the other."""
    denoiser = CountingDenoiser()
    curves = []
    for row in range(len(noisy)):
        scene = slice(row // DRAWS, row // DRAWS + 1)
        conditioning = denoiser.condition(
            Views(context.observation[scene], context.params[scene]), positions[scene]
        )
        curves.append(denoiser(noisy[row : row + 1], level[row : row + 1], conditioning))
    return Curve(*(torch.cat(parts) for parts in zip(*curves, strict=True)))


def test_each_draw_is_denoised_with_its_scenes_conditioning(
    context: Views, positions: Tensor, noisy: Tensor, level: Tensor
) -> None:
    denoise = ObservationDenoiser(CountingDenoiser(), Points(), context, positions, samples=DRAWS)
    observation, found = denoise(noisy, level)
    expected = by_hand(context, positions, noisy, level)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(observation, Points()(expected, positions.repeat_interleave(DRAWS, dim=0)))


@pytest.mark.parametrize(("scale", "rows"), [(1.0, SCENES), (2.0, 2 * SCENES)])
@pytest.mark.parametrize("steps", [1, 20])
def test_conditioning_happens_once_and_denoising_once_a_step(
    context: Views, positions: Tensor, noisy: Tensor, scale: float, rows: int, steps: int
) -> None:
    denoiser = CountingDenoiser()
    denoise = ObservationDenoiser(denoiser, Points(), context, positions, DRAWS, scale)
    list(DDIM(steps).sample(denoise, noisy, CosineProcess(), lambda: noisy))
    assert len(denoiser.conditioned) == 1
    assert len(denoiser.called) == steps
    assert len(denoiser.conditioned[0].observation) == rows
    assert all(len(noisy) == rows * DRAWS for noisy, _, _ in denoiser.called)


def test_without_guidance_the_denoiser_gets_just_what_the_sampler_has(
    context: Views, positions: Tensor, noisy: Tensor, level: Tensor
) -> None:
    denoiser = CountingDenoiser()
    ObservationDenoiser(denoiser, Points(), context, positions, DRAWS, guidance_scale=1.0)(noisy, level)
    assert denoiser.conditioned[0] is context
    assert denoiser.called[0][0] is noisy
    assert denoiser.called[0][1] is level


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("space", ["signal", "observation"])
def test_guidance_extrapolates_from_the_model_without_context(
    context: Views, positions: Tensor, noisy: Tensor, level: Tensor, scale: float, space: GuidanceSpace
) -> None:
    denoise = ObservationDenoiser(CountingDenoiser(), Points(), context, positions, DRAWS, scale, space)
    observation, found = denoise(noisy, level)

    nothing = context._replace(observation=torch.zeros_like(context.observation))
    conditional, unconditional = (by_hand(part, positions, noisy, level) for part in (context, nothing))
    repeated = positions.repeat_interleave(DRAWS, dim=0)
    if space == "signal":
        signal = Curve(*(u + scale * (c - u) for c, u in zip(conditional, unconditional, strict=True)))
        expected = Points()(signal, repeated)
    else:
        signal = conditional
        c, u = Points()(conditional, repeated), Points()(unconditional, repeated)
        expected = u + scale * (c - u)
    torch.testing.assert_close(found, signal)
    torch.testing.assert_close(observation, expected)


def test_a_denoiser_says_itself_what_dropped_context_is(context: Views, positions: Tensor, noisy: Tensor) -> None:
    class Custom(CountingDenoiser):
        def drop_context(self, context: Views) -> Views:
            return context._replace(observation=torch.full_like(context.observation, 9.0))

    denoiser = Custom()
    ObservationDenoiser(denoiser, Points(), context, positions, guidance_scale=2.0)
    kept, dropped = denoiser.conditioned[0].observation.chunk(2)
    assert torch.equal(kept, context.observation)
    assert (dropped == 9).all()
