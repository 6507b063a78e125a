"""A problem small enough to calculate by hand: straight lines, observed at points."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dfm_lightning.diffusion import DDIM
from dfm_lightning.interfaces import (
    ForwardModel,
    SignalDenoiser,
)
from dfm_lightning.module import DenoisedBatch, DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, LossTerm, Views, as_request


class Line(NamedTuple):
    """A signal: a straight line."""

    offset: Float[Tensor, "b"]
    slope: Float[Tensor, "b"]


class Points(ForwardModel):
    """The line's values at positions φ [b v], in two channels: the value, and twice it."""

    def forward(self, signal: Line, params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 2 1 1"]:
        value = signal.offset[:, None] + signal.slope[:, None] * params
        return torch.stack([value, 2 * value], dim=2)[..., None, None]


class LineDenoiser(SignalDenoiser):
    """Weighs context and noisy target; remembers the contexts it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.5, 0.25]))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.contexts: list[Tensor] = []

    def condition(self, context: Views, target_params: Float[Tensor, "b 1"]) -> Tensor:
        self.contexts.append(context.observation)
        return context.observation.flatten(1).sum(dim=1)

    def forward(self, noisy: Float[Tensor, "b 1 2 1 1"], level: Level, conditioning: Float[Tensor, "b"]) -> Line:
        mean = noisy.mean(dim=(1, 2, 3, 4))
        return Line(self.weights[0] * conditioning, self.weights[1] * mean * (1 - level / 1000))


POSITIONS = torch.linspace(-1, 1, 24).view(4, 6)
LINES = Line(torch.tensor([0.5, -0.3, 0.8, 0.1]), torch.tensor([1.0, 0.4, -0.6, -1.0]))


def batch(novel: int = 3, scenes: slice = slice(0, 4)) -> Batch:
    """Scenes with two context views, a target and some novel ones."""
    ends = {"context": (0, 2), "target": (2, 3), "novel": (3, 3 + novel)}
    views = [Views(Points()(LINES, POSITIONS[:, i:j])[scenes], POSITIONS[scenes, i:j]) for i, j in ends.values()]
    return Batch(*views, key=["a", "b", "c", "d"][scenes], truth={})


def module(**settings: Any) -> DiffusionWithForwardModel:
    return DiffusionWithForwardModel(LineDenoiser(), Points(), **{"sampler": DDIM(3), **settings})


def denoised(signal: Line, of: Batch) -> DenoisedBatch:
    compared = Views(
        torch.cat([of.target.observation, of.novel.observation], dim=1),
        torch.cat([of.target.params, of.novel.params], dim=1),
    )
    return DenoisedBatch(
        of,
        torch.zeros(len(of.key), dtype=torch.long),
        None,
        signal,
        compared,
        Points().observe(signal, compared.params),
    )


class WithRegulariser(DiffusionWithForwardModel):
    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        return {"steepness": LossTerm(denoised.signal.slope.square().mean(), 0.5)}


class Scenes(LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader([batch()], batch_size=None)

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([as_request(batch())], batch_size=None)


def trainer(**settings: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **settings)


def names(keys: list[str], draws: list[int]) -> list[tuple[str | int, ...]]:
    return [(key, draw) for key in keys for draw in draws]
