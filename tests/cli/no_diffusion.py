"""Models of the toy problem that are no diffusion. Tests copy this file to their working directory."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from dfm_lightning.randomness import named_noise
from dfm_lightning.sampling import Plan, PredictingModule
from dfm_lightning.types import Batch, Prediction, Request, Views, as_request, map_tensors


class Descent(PredictingModule):
    """Draws begin at random and follow the gradient of their disagreement with the context.

    Args:
        steps: of the descent.
        samples: number of signals drawn for each context.
    """

    def __init__(self, steps: int = 200, samples: int = 2) -> None:
        super().__init__(samples)
        self.steps = steps
        self.rate = nn.Parameter(torch.tensor(0.05))

    def predict_draws(self, key: str, context: Views, params: Tensor, draws: range) -> Iterator[Prediction]:
        """See `PredictingModule`."""
        for draw in draws:
            signal = named_noise([("descent", key, draw)], (1,), context.observation.device)
            for _ in range(self.steps):
                with torch.enable_grad():
                    signal.requires_grad_()
                    seen = (context.params * signal)[..., None, None, None]
                    (gradient,) = torch.autograd.grad((seen - context.observation).square().sum(), signal)
                signal = (signal - self.rate * gradient).detach()
            yield Prediction(key, draw, signal, observed(params, signal)[0], params, context)


class Means(LightningModule):
    """The mean of what the context says, and nothing of this program but what a `Predictor` has.

    Args:
        shift: added to each signal.
    """

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift
        self.samples = 1
        self.plan = Plan()

    def predictions(self, request: Request) -> Iterator[Prediction]:
        """See `Predictor`."""
        for row, key in enumerate(request.key):
            context, params = map_tensors(lambda t, r=row: t[r : r + 1], (request.context, request.params))
            for draw in self.plan.pending(key, self.samples):
                signal = context.observation.mean().view(1, 1) / context.params.mean() + self.shift
                yield Prediction(key, draw, signal, observed(params, signal)[0], params, context)
                self.plan.worked(1)

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`."""
        return len(batch.key) * self.samples

    def settings(self) -> dict[str, Any]:
        """See `Predictor`."""
        return {"shift": self.shift}

    def predict_step(self, batch: Request, batch_idx: int) -> Iterator[Prediction]:
        """Give the draws one by one."""
        return self.predictions(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Score each scene by its signal's error."""
        draws = {draw.key: draw.signal.item() for draw in self.predictions(as_request(batch))}
        truths = dict(zip(batch.key, batch.truth["signal"].flatten().tolist(), strict=True))
        return {"scores": {key: {"error": abs(signal - truths[key])} for key, signal in draws.items()}}


class Silent(LightningModule):
    """Draws nothing."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure nothing."""

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Predict what is no prediction."""
        return batch.context.observation


class Wrong(Means):
    """Says that it draws, but gives something else."""

    def predict_step(self, batch: Request, batch_idx: int) -> Any:
        """Predict what is no prediction."""
        return batch.context.observation


def observed(params: Tensor, signal: Tensor) -> Tensor:
    """Observe a signal [1 1] as `toy_problem.Slope` does."""
    return (params * signal)[..., None, None, None].expand(-1, -1, 1, 2, 2)
