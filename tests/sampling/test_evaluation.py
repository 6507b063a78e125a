"""Samples are drawn in evaluation mode and without gradients, whoever asks for them and in whatever mode."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer, request
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dfm_lightning.diffusion import DDIM
from dfm_lightning.randomness import named_noise
from dfm_lightning.sampling import PredictingModule, Predictor, evaluating
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Prediction, Request, Views, as_request


def scenes(**settings: Any) -> InverseGraphics:
    """A model whose renderer jitters rays in training."""
    options = {"sampler": DDIM(2), "samples": 2, "autoregressive_steps": 1, **settings}
    return InverseGraphics(BallDenoiser(), renderer(), **options)


def trainer(**options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **quiet, **options)


def test_plain_iteration_in_training_mode_gives_what_the_trainer_gives() -> None:
    asked = request(["a", "b"], 3)
    model = scenes().train()
    own_mode = model.denoiser.eval()  # a part that its owner keeps in evaluation mode
    (expected,) = trainer().predict(model, DataLoader([asked], batch_size=None))
    model.train()
    own_mode.training = False
    torch.manual_seed(1)  # of the jitter, were there any
    modes = []
    draws: list[Prediction] = []
    for prediction in model.predictions(asked):
        modes.append((model.training, model.forward_model.training, own_mode.training, torch.is_grad_enabled()))
        draws.append(prediction)
    assert set(modes) == {(True, True, False, True)}, "who consumes the draws stays in the mode they were in"
    assert [(p.key, p.sample) for p in draws] == [(p.key, p.sample) for p in expected]
    for draw, other in zip(draws, expected, strict=True):
        assert torch.equal(draw.observation, other.observation)
        assert not draw.observation.requires_grad


def test_the_renderer_of_these_tests_does_jitter_in_training() -> None:
    model = scenes().train()
    params = request(["a"], 3).params
    with evaluating(model):
        field = model.denoiser.deterministic_field(batch(["a"]).context)
        still = model.forward_model(field, params)
    assert model.training
    assert not torch.equal(model.forward_model(field, params), still)


def test_what_the_trainer_returns_is_drawn_while_it_has_the_precision() -> None:
    precise: list[bool] = []

    class Noting(Climbing):
        def predict_draws(self, *scene: Any) -> Iterator[Prediction]:
            precise.append(not torch.is_autocast_enabled("cpu"))
            return super().predict_draws(*scene)

    wanted = DataLoader([as_request(climbing_batch())], batch_size=None)
    (draws,) = trainer(precision="bf16-mixed").predict(Noting(), wanted)
    assert len(draws) == 4
    assert precise == [False] * 4


class Climbing(PredictingModule):
    """No diffusion at all: draws follow the gradient of how well they agree with the context."""

    def __init__(self, samples: int = 2) -> None:
        super().__init__(samples)
        self.gain = nn.Parameter(torch.tensor(2.0))

    def predict_draws(self, key: str, context: Views, params: Tensor, draws: range) -> Iterator[Prediction]:
        for draw in draws:
            x = named_noise([("climbing", key, draw)], (1,), context.observation.device)
            with torch.enable_grad():
                for _ in range(40):
                    x = x.detach().requires_grad_()
                    error = (self.gain * x * context.params - context.observation.mean((2, 3, 4))).square().sum()
                    (gradient,) = torch.autograd.grad(error, x)
                    x = x - 0.1 * gradient
            signal = x.detach()
            observation = (self.gain * signal * params)[0, :, None, None, None]
            yield Prediction(key, draw, signal, observation, params, context)


def climbing_batch() -> Any:
    """Scenes whose signal 0.25 · key is seen through the slopes 1, at gain 2."""
    views = Views(torch.tensor([0.5, -0.5]).view(2, 1, 1, 1, 1), torch.ones(2, 1))
    return batch(["a", "b"])._replace(context=views, target=views, novel=views)


@pytest.mark.parametrize("inference_mode", [True, False])
def test_a_method_that_needs_gradients_works_in_test_and_predict(inference_mode: bool) -> None:
    model = Climbing()
    assert isinstance(model, Predictor)
    runner = trainer(inference_mode=inference_mode)
    (scores,) = runner.test(model, DataLoader([climbing_batch()], batch_size=None), verbose=False)
    assert scores["test/rmse_mean"] < 1e-3
    (draws,) = runner.predict(model, DataLoader([as_request(climbing_batch())], batch_size=None))
    assert [round(float(p.signal), 3) for p in draws] == [0.25, 0.25, -0.25, -0.25]


class Guiding(DDIM):
    """Each step also descends the distance of the estimate's brightness from a wanted one."""

    def sample(self, denoise: Callable, noise: Tensor, *others: Any) -> Any:
        def guided(noisy: Tensor, level: Tensor) -> Any:
            with torch.enable_grad():
                noisy = noisy.detach().requires_grad_()
                estimate = denoise(noisy, level)
                (gradient,) = torch.autograd.grad(estimate.clean.mean(), noisy)
            self.gradients.append(gradient)
            return estimate._replace(clean=estimate.clean.detach() - gradient)

        return super().sample(guided, noise, *others)

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.gradients: list[Tensor] = []


def test_a_sampler_that_needs_gradients_works_in_predict() -> None:
    sampler = Guiding(2)
    model = scenes(sampler=sampler, samples=1)
    trainer().predict(model, DataLoader([request(["a"], 3)], batch_size=None))
    assert len(sampler.gradients) == 2
    assert all(gradient.abs().sum() > 0 for gradient in sampler.gradients)


def test_a_broken_draw_leaves_the_modes_as_they_were() -> None:
    class Broken(Climbing):
        def predict_draws(self, *_: Any) -> Iterator[Prediction]:
            raise RuntimeError

    model = Broken().train()
    wanted: Request = as_request(climbing_batch())
    with pytest.raises(RuntimeError):
        next(model.predictions(wanted))
    assert model.training
    assert torch.is_grad_enabled()
