"""Several target views are diffused together: samples against closed forms, training, refusals."""

import pytest
import torch
from torch import Tensor

from dfm_lightning.denoisers import MLPDenoiser
from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel, Noising, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, Views

SLOPES = torch.tensor([1.0, 0.5]).view(1, 2, 1)


class Line(ForwardModel):
    """A number s seen under a slope φ: O = φ s."""

    def forward(self, signal: Tensor, params: Tensor) -> Tensor:
        return (signal[:, None] * params)[..., None, None]


class ExactLine(SignalDenoiser):
    """The mean of s, normal beforehand, given noisy observations x_i = α φ_i s + σ ε_i of all targets."""

    target_views = 2

    def use_process(self, process: Noising) -> None:
        self.process = (process,)

    def condition(self, context: Views, target_params: Tensor) -> Tensor:
        return target_params

    def forward(self, noisy: Tensor, level: Level, conditioning: Tensor) -> Tensor:
        signal_rate, noise_rate = (rate.flatten() for rate in self.process[0].rates(level, noisy))
        slope = signal_rate[:, None] * conditioning[..., 0]
        precision = 1 + slope.square().sum(dim=1) / noise_rate.square()
        return ((slope * noisy.flatten(1)).sum(dim=1) / noise_rate.square() / precision)[:, None]


def scenes(count: int, targets: int = 2, novel: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(count, 1, generator=generator)

    def views(number: int) -> Views:
        params = torch.rand(count, number, 1, generator=generator) + 0.5
        return Views(Line()(signal, params), params)

    return Batch(views(1), views(targets), views(novel), [str(row) for row in range(count)], {})


def test_samples_follow_the_law_that_all_targets_together_determine() -> None:
    model = DiffusionWithForwardModel(ExactLine(), Line(), sampler=DDIM(steps=100))
    draws = 4000
    drawn = model.sample(scenes(1).context, SLOPES, [("draw", draw) for draw in range(draws)], (1, 1, 1))
    assert drawn.observation.shape == (draws, 2, 1, 1, 1)
    torch.testing.assert_close(drawn.observation[:, 1], drawn.observation[:, 0] / 2)
    signal = drawn.signal.flatten()
    assert abs(signal.mean().item()) < 4 / draws**0.5
    assert signal.std().item() == pytest.approx(1, abs=0.06)
    kurtosis = ((signal - signal.mean()) / signal.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, abs=0.4), "normal, as it was beforehand"


def test_each_target_has_noise_of_its_own() -> None:
    """Noise that both targets shared would look like more signal: at the first level s would be overestimated."""
    model = DiffusionWithForwardModel(ExactLine(), Line(), sampler=DDIM(steps=1))
    seen: list[Tensor] = []
    model.denoiser.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model.sample(scenes(1).context, SLOPES, [("draw", draw) for draw in range(500)], (1, 1, 1))
    correlation = torch.corrcoef(seen[0].flatten(1).T)[0, 1].item()
    assert abs(correlation) < 0.15


def test_the_stock_denoiser_trains_and_predicts_with_two() -> None:
    torch.manual_seed(0)
    denoiser = MLPDenoiser(inputs=1 + 1 + 2 + 2, signal_shape=[1], width=16, depth=1, target_views=2)
    model = DiffusionWithForwardModel(denoiser, Line(), sampler=DDIM(steps=2), samples=1)
    batch = scenes(8)
    losses = model.losses(batch)
    losses["target"].value.backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in denoiser.parameters())
    with torch.no_grad():
        denoised = model.denoise_noised(batch)
        error = (denoised.observed.observation - denoised.compared.observation).square()
        losses = model.observation_losses(denoised)
    torch.testing.assert_close(losses["target"].value, error[:, :2].mean())
    torch.testing.assert_close(losses["novel"].value, error[:, 2:].mean())
    (prediction,) = model.draw(
        Views(batch.context.observation[0], batch.context.params[0]), torch.rand(4, 1), samples=1
    )
    assert prediction.observation.shape == (4, 1, 1, 1)


@pytest.mark.parametrize("targets", [1, 3])
def test_another_number_of_targets_is_refused(targets: int) -> None:
    model = DiffusionWithForwardModel(ExactLine(), Line())
    with pytest.raises(UserError, match=rf"\b2\b.*target\.observation.*\b{targets}\b"):
        model.denoise_noised(scenes(4, targets=targets))


def test_a_request_for_fewer_views_is_refused() -> None:
    model = DiffusionWithForwardModel(ExactLine(), Line(), samples=1)
    context = Views(torch.zeros(1, 1, 1, 1), torch.ones(1, 1))
    with pytest.raises(UserError, match=r"\b2\b.*params.*\b1\b"):
        model.draw(context, torch.ones(1, 1))
