"""Measurement noise in context and target, where the posterior is normal and known."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.diffusion import DDIM, ContextGuidance, CosineProcess, MeasuredTargets, VarianceExploding
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, Views

DRAWS = 1500


class Repeated(ForwardModel):
    """Signals s [b 1], drawn from N(0, 1), seen several times at once; φ [b v] is the noise's deviation."""

    def __init__(self, times: int, declares: bool = True) -> None:
        super().__init__()
        self.times = times
        self.declares = declares

    def forward(self, signal: Float[Tensor, "b 1"], params: Float[Tensor, "b v"]) -> Float[Tensor, "b v k 1 1"]:
        return signal[:, :, None, None, None].expand(-1, params.shape[1], self.times, 1, 1)

    def noise_deviation(self, params: Float[Tensor, "b v"]) -> Tensor | None:
        return params[..., None, None, None] if self.declares else None


class Known(NamedTuple):
    """What the context tells: its numbers over their variance, summed, and a precision; the target's noise."""

    weighted: Float[Tensor, "b"]
    precision: Float[Tensor, "b"]
    noise: Float[Tensor, "b"]


class Exact(SignalDenoiser):
    """The mean of the signal given the context and a noisy target, both with measurement noise."""

    def use_process(self, process: Any) -> None:
        self.process = (process,)

    def condition(self, context: Views, target_params: Float[Tensor, "b v"]) -> Known:
        numbers, variance = context.observation.flatten(1), context.params[:, 0].square()
        return Known(numbers.sum(dim=1) / variance, numbers.shape[1] / variance, target_params[:, 0])

    def forward(self, noisy: Float[Tensor, "b 1 k 1 1"], level: Level, conditioning: Known) -> Tensor:
        signal_rate, noise_rate = self.process[0].rates(level, noisy[:, 0, 0, 0, 0])
        variance = conditioning.noise.square() + (noise_rate / signal_rate).square()
        given = (noisy / signal_rate.view(-1, 1, 1, 1, 1)).flatten(1)
        precision = 1 + conditioning.precision + given.shape[1] / variance
        return ((conditioning.weighted + given.sum(dim=1) / variance) / precision)[:, None]


def drawn_spread(
    times: int, context_noise: float, target_noise: float, guidance: ContextGuidance | None = None, seed: int = 0
) -> tuple[float, float]:
    """Standard deviation of signals drawn for one context, and the exact posterior's."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(1, 1, generator=generator)
    noise = context_noise * torch.randn(1, 1, times, 1, 1, generator=generator)
    context = Views(true[..., None, None, None] + noise, torch.tensor([[context_noise]]))
    model = DiffusionWithForwardModel(Exact(), Repeated(times), sampler=DDIM(100), context_guidance=guidance)
    names = [("draw", str(number)) for number in range(DRAWS)]
    sample = model.sample(context, torch.tensor([[target_noise]]), names, (times, 1, 1))
    return float(sample.signal.std()), (1 + times / context_noise**2) ** -0.5


@pytest.mark.parametrize(("times", "context_noise"), [(1, 0.5), (1, 2.0), (30, 2.0)])
def test_noise_in_the_context_alone_leaves_the_right_posterior(times: int, context_noise: float) -> None:
    found, exact = drawn_spread(times, context_noise, 0.0)
    assert found == pytest.approx(exact, rel=0.08)


@pytest.mark.parametrize(("times", "noise"), [(1, 0.5), (4, 1.0), (30, 0.5)])
def test_with_noise_in_the_target_draws_are_means_given_it(times: int, noise: float) -> None:
    found, exact = drawn_spread(times, 2.0, noise)
    # Of the mean given another target with its noise, that is.
    expected = exact**2 / math.sqrt(exact**2 + noise**2 / times)
    assert found == pytest.approx(expected, rel=0.08)
    if times == 30:
        assert found == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(("times", "seed"), [(1, 0), (4, 1), (16, 2)])
def test_guidance_to_noisy_contexts_leaves_draws_their_spread(times: int, seed: int) -> None:
    found, exact = drawn_spread(times, 0.5, 0.0, ContextGuidance(3), seed)
    assert 0.85 * exact < found < 1.05 * exact
    # Not so where the noise is not known: all draws become one.
    collapsed, _ = drawn_spread(times, 0.5, 0.0, ContextGuidance(3, noise=0), seed)
    assert collapsed < 0.05 * exact


# --- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [CosineProcess(), VarianceExploding()])
def test_corrected_targets_have_the_mean_of_clean_ones(process: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    number, deviation = 200_000, torch.tensor([0.2, 0.7]).view(1, 1, 2, 1, 1)
    clean, measured, noise = torch.randn(3, number, 1, 2, 1, 1, generator=generator).double()
    observed = clean + deviation * measured
    algebra = MeasuredTargets(process, deviation)
    for share in (0.1, 0.3, 0.7):
        dtype = torch.long if process.integer_levels else torch.float32
        level = torch.full((number,), share * process.last_level).to(dtype)
        signal_rate, noise_rate = process.exact_rates(level[0].item())
        noisy = signal_rate * observed + noise_rate * noise
        corrected = algebra.corrected(observed, noise, level)
        total = signal_rate**2 * (1 + deviation**2) + noise_rate**2
        gain = (corrected * noisy).mean(dim=0) / noisy.square().mean(dim=0)
        errors = 6 * (corrected.std(dim=0) / noisy.std(dim=0)) / number**0.5
        assert ((gain - (signal_rate / total)[0]).abs() < errors).all()
        # Their noise is that of the measurement, over the weight.
        variance = (corrected - clean).var(dim=0)
        expected = deviation[0].double() ** 2
        torch.testing.assert_close(algebra.weight(level)[0] * variance, expected, rtol=0.01, atol=0)
        # And what a sampler is given is the mean of the noisy one.
        given, _ = process.denoiser_input(noisy, level)
        estimate = algebra.estimate(signal_rate / total * noisy, given, level)
        expected = signal_rate * (1 + deviation**2) / total * noisy
        torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-5)


class Weighing(SignalDenoiser):
    """A weight for the context, one for the noisy target."""

    def __init__(self, weights: Float[Tensor, "2"]) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def condition(self, context: Views, target_params: Tensor) -> Float[Tensor, "b"]:
        return context.observation.flatten(1).mean(dim=1)

    def forward(self, noisy: Tensor, level: Level, conditioning: Float[Tensor, "b"]) -> Float[Tensor, "b 1"]:
        return (self.weights[0] * conditioning + self.weights[1] * noisy.flatten(1).mean(dim=1))[:, None]


class OneLevel(CosineProcess):
    """A process that trains at one level alone."""

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        return torch.full((batch,), 300)


@pytest.mark.parametrize("declares", [True, False])
def test_training_learns_the_mean_of_the_signal_where_the_noise_is_declared(declares: bool) -> None:
    torch.manual_seed(0)
    number, times, context_noise, target_noise = 200_000, 2, 0.8, 0.6
    signal_rate, noise_rate = OneLevel().exact_rates(300)
    context_precision = times / context_noise**2
    target_precision = times / (target_noise**2 + (noise_rate / signal_rate) ** 2)
    exact = torch.tensor([context_precision, target_precision / signal_rate]) / (
        1 + context_precision + target_precision
    )
    signal = torch.randn(number, 1, 1, 1, 1)
    context, target = (
        Views(signal + sigma * torch.randn(number, 1, times, 1, 1), torch.full((number, 1), sigma))
        for sigma in (context_noise, target_noise)
    )
    novel = Views(target.observation[:, :0], target.params[:, :0])
    batch = Batch(context, target, novel, [str(index) for index in range(number)], {})
    denoiser = Weighing(exact)
    model = DiffusionWithForwardModel(denoiser, Repeated(times, declares), OneLevel())
    loss = model.losses(batch)["target"].value
    (slope,) = torch.autograd.grad(loss, denoiser.weights, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(part, denoiser.weights, retain_graph=True)[0] for part in slope])
    # How far the minimum is, in one step of Newton's: the loss is quadratic.
    away = torch.linalg.solve(curvature, slope.detach()).norm() / exact.norm()
    assert (away < 0.02) if declares else (away > 0.1)


def test_teachers_and_noisy_targets_exclude_each_other() -> None:
    views = Views(torch.zeros(1, 1, 2, 1, 1), torch.ones(1, 1))
    batch = Batch(views, views, views, ["0"], {})
    model = DiffusionWithForwardModel(Weighing(torch.ones(2)), Repeated(2), OneLevel())
    levels = {"levels": lambda self, batch, device: torch.zeros(batch).long(), "temperature": 1.0}
    model.teaching = type("Teacher", (), levels)()
    with pytest.raises(UserError, match="distillation"):
        model.losses(batch)
