"""Gradients through sampling against finite differences, and what they take of memory."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from known_mixture import Mixture, reference
from test_sampler_contract import SAMPLERS, STOCHASTIC, CurveDenoiser, Make, Points
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dfm_lightning.diffusion import (
    CosineProcess,
    Estimate,
    Quadratic,
    Trailing,
    UniPC,
    adjoint_gradients,
    sample_with_gradients,
)
from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Sample, Views

REFERENCE = reference()
PROCESS = CosineProcess()
NOISE: Tensor = REFERENCE["x_T"]
DIRECTION = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def mixture(means: Tensor) -> Callable[[Tensor, Tensor], Estimate]:
    known = Mixture(REFERENCE["weights"], means, REFERENCE["stds"])
    return lambda noisy, level: Estimate(known.mean_given(noisy, *PROCESS.exact_rates(int(level[0]))))


def score(estimate: Estimate) -> Tensor:
    return (estimate.clean @ DIRECTION).sin().sum()


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@every_sampler
def test_the_gradient_is_that_of_the_steps(name: str) -> None:
    def value(noise: Tensor, means: Tensor) -> Tensor:
        drawn = iter(REFERENCE["noise"])
        sampler = SAMPLERS[name](6, spacing=Trailing(clipped=True))
        last = sample_with_gradients(sampler, mixture(means), noise, PROCESS, lambda: next(drawn)[:2])
        return score(Estimate(last.noisy))

    assert torch.autograd.gradcheck(
        value,
        (NOISE[:2].clone().requires_grad_(), REFERENCE["means"].clone().requires_grad_()),
        eps=1e-6,
        atol=1e-6,
        rtol=1e-5,
    )


class Model(DiffusionWithForwardModel):
    """Curves (see the contract's tests) in double precision."""

    def __init__(self, make: Make) -> None:
        super().__init__(CurveDenoiser(), Points(), sampler=make(5, spacing=Trailing(clipped=True)))
        self.double().eval()


@every_sampler
@pytest.mark.parametrize("guidance_scale", [1.0, 1.7])
def test_a_score_of_the_signal_has_the_gradient_of_finite_differences(name: str, guidance_scale: float) -> None:
    model = Model(SAMPLERS[name])
    model.guidance_scale = guidance_scale
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    noise, context, params = random(4, 1, 1, 1, 1), random(2, 1, 1, 1, 1), random(2, 1)
    fresh = random(20, 4, 1, 1, 1, 1)

    def sampled(noise: Tensor, context: Tensor, params: Tensor, weight: Tensor) -> Sample:
        drawn = iter(fresh)
        model.denoiser.weight.data = weight.detach()
        return model.sample_with_gradients(Views(context, params), params, noise, lambda: next(drawn))

    def whole(sample: Sample) -> Tensor:
        return (sample.signal.height * sample.signal.slope.cos()).sum() + sample.observation.square().sum()

    inputs = [tensor.clone().requires_grad_() for tensor in (noise, context, params, model.denoiser.weight.data)]
    sample = sampled(*inputs)
    found = torch.autograd.grad(whole(sample), [*inputs[:3], model.denoiser.weight])
    expected = [differences(lambda *parts: whole(sampled(*parts)).detach(), inputs, place) for place in range(4)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def differences(value: Callable[..., Tensor], inputs: list[Tensor], place: int) -> Tensor:
    """Central differences by one of the inputs."""
    result = torch.zeros_like(inputs[place])
    for entry in range(result.numel()):
        sides = []
        for step in (1e-6, -1e-6):
            moved = [tensor.detach().clone() for tensor in inputs]
            moved[place].view(-1)[entry] += step
            sides.append(value(*moved))
        result.view(-1)[entry] = (sides[0] - sides[1]) / 2e-6
    return result


def test_training_mode_is_refused() -> None:
    model = Model(SAMPLERS["ddim"]).train()
    zeros = torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64)
    with pytest.raises(UserError, match="evaluation mode"):
        model.sample_with_gradients(Views(zeros, zeros[:, :, 0, 0, 0]), zeros[:, :, 0, 0, 0], zeros)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is entered, and the most there have been at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return found

    def count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def gone(_: Any) -> None:
            self.now -= size
            del self.known[key]

        self.known[key] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


WIDTH = 20_000


def wide(weight: Tensor) -> Callable[[Tensor, Tensor], Estimate]:
    """A denoiser that makes far more numbers than an observation has, as networks and renderers do."""

    def denoise(noisy: Tensor, level: Tensor) -> Estimate:
        hidden = (noisy[..., None] * weight).sin().tanh()
        return Estimate(hidden.mean(dim=-1), hidden)

    return denoise


def most_bytes(steps: int, gradient: str) -> int:
    weight = torch.linspace(0, 1, WIDTH).requires_grad_()
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sampler = UniPC(steps, spacing=Quadratic())
    with LiveBytes() as live:
        if gradient == "adjoint":
            found = adjoint_gradients(sampler, wide(weight), noise, PROCESS, lambda e: e.clean.sum(), [weight])
            assert found.inputs[0].norm() > 0
        else:
            evaluate = wide(weight)
            if gradient == "exact":
                last = sample_with_gradients(sampler, evaluate, noise, PROCESS)
            else:
                *_, last = sampler.sample(evaluate, noise, PROCESS, lambda: noise)
            torch.autograd.grad(last.noisy.sum() + last.source.mean(), [noise, weight])
    return live.most


@pytest.mark.parametrize("gradient", ["exact", "adjoint"])
def test_memory_does_not_grow_with_the_number_of_evaluations(gradient: str) -> None:
    few, many = most_bytes(4, gradient), most_bytes(40, gradient)
    # Beside one evaluation, some observations of 6 numbers for each further step.
    assert many - few < 36 * 100 * 6 * 4
    assert most_bytes(40, "everything kept") > 8 * many


def test_the_adjoint_converges_to_the_gradient_of_the_continuous_equation() -> None:
    means = REFERENCE["means"].clone().requires_grad_()
    noise = NOISE.clone().requires_grad_()
    fine = sample_with_gradients(UniPC(300, spacing=Quadratic()), mixture(means), noise, PROCESS)
    exact = torch.autograd.grad(score(Estimate(fine.noisy)), [noise, means])
    errors = []
    for steps in (15, 30, 60, 120):
        sampler = UniPC(steps, spacing=Quadratic())
        found = adjoint_gradients(sampler, mixture(means), noise.detach(), PROCESS, score, [means])
        errors.append([relative(found.noise, exact[0]), relative(found.inputs[0], exact[1])])
    by_noise, by_means = zip(*errors, strict=True)
    assert by_noise[0] < 0.03
    assert by_noise[-1] < 1e-3
    assert by_means[-1] < 0.01
    for error in (by_noise, by_means):
        assert error[0] > 2 * error[1] > 4 * error[2] > 8 * error[3]


def test_the_adjoint_of_one_evaluation_is_exact() -> None:
    means = REFERENCE["means"].clone().requires_grad_()
    noise = NOISE.clone().requires_grad_()
    sampler = UniPC(1, spacing=Quadratic(), temperature=0.7)
    last = sample_with_gradients(sampler, mixture(means), noise, PROCESS)
    exact = torch.autograd.grad(score(Estimate(last.noisy)), [noise, means])
    found = adjoint_gradients(sampler, mixture(means), noise.detach(), PROCESS, score, [means])
    torch.testing.assert_close(found.noise, exact[0])
    torch.testing.assert_close(found.inputs[0], exact[1])
    torch.testing.assert_close(found.sample, last.noisy.detach())
    assert found.value.item() == pytest.approx(score(Estimate(last.noisy)).item())


def test_finer_levels_on_the_way_back_lower_the_adjoints_error() -> None:
    noise, means = NOISE.clone().requires_grad_(), REFERENCE["means"]
    sampler = UniPC(40, spacing=Quadratic())
    last = sample_with_gradients(sampler, mixture(means), noise, PROCESS)
    (exact,) = torch.autograd.grad(score(Estimate(last.noisy)), [noise])
    fine = list(reversed(Quadratic().levels(200, PROCESS)))
    errors = [
        relative(adjoint_gradients(sampler, mixture(means), NOISE, PROCESS, score, levels=levels).noise, exact)
        for levels in (None, fine)
    ]
    assert errors[1] < 0.6 * errors[0]
    with pytest.raises(ValueError, match="levels must rise"):
        adjoint_gradients(sampler, mixture(means), NOISE, PROCESS, score, levels=fine[1:])


@pytest.mark.parametrize("name", STOCHASTIC)
def test_fresh_noise_must_be_given_and_has_no_adjoint(name: str) -> None:
    sampler = SAMPLERS[name](6)
    with pytest.raises(UserError, match="draw_noise"):
        sample_with_gradients(sampler, mixture(REFERENCE["means"]), NOISE, PROCESS)
    with pytest.raises(UserError, match="eta"):
        adjoint_gradients(sampler, mixture(REFERENCE["means"]), NOISE, PROCESS, score)
