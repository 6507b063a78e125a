"""Linear problems with a Gaussian mixture for prior, whose denoiser and posteriors are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.diffusion import DiscreteProcess, NoiseProcess
from dfm_lightning.diffusion.zero_shot import LinearProblem, linear_problem
from dfm_lightning.forward_models.linear import Matrix, matrix_operator

_FOLDER = Path(__file__).parents[2] / "data/inverse_problems"
DATA: dict[str, Any] = torch.load(_FOLDER / "solvers.pt", weights_only=True)
MORE_RUNS: dict[str, Any] = torch.load(_FOLDER / "solvers_more.pt", weights_only=True)["runs"]
SHAPE = (1, 4, 4)


class Mixture:
    """A Gaussian mixture in n dimensions: weights [k], means [k n], covariances [k n n], in float64."""

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.weights, self.means, self.covariances = weights.double(), means.double(), covariances.double()
        self.spectrum, self.axes = torch.linalg.eigh(self.covariances)

    def denoise(self, x: Tensor, noise: float | Tensor) -> Tensor:
        """E[x₀ | x₀ + σ z = x] for x [b n]; σ a number or [b 1 1]."""
        power = self.spectrum.clamp(min=0) + torch.as_tensor(noise, dtype=torch.float64) ** 2
        place = torch.einsum("bkn,knm->bkm", x[:, None] - self.means, self.axes)
        log = self.weights.log() - 0.5 * (place.square() / power + power.log()).sum(dim=2)
        mean = self.means + torch.einsum("bkm,knm->bkn", self.spectrum.clamp(min=0) / power * place, self.axes)
        return (log.softmax(dim=1)[..., None] * mean).sum(dim=1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        z = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        scaled = self.spectrum.clamp(min=0).sqrt()[which] * z
        return self.means[which] + torch.einsum("bnm,bm->bn", self.axes[which], scaled)

    @property
    def variance(self) -> float:
        """The trace of the covariance."""
        mean = (self.weights[:, None] * self.means).sum(0)
        trace = self.covariances.diagonal(dim1=1, dim2=2).sum(1) + (self.means - mean).square().sum(1)
        return float((self.weights * trace).sum())


PRIOR = Mixture(*(DATA["prior"][name] for name in ("weights", "means", "covariances")))


def posterior(name: str) -> Mixture:
    """A problem's exact posterior."""
    return Mixture(*(DATA["posteriors"][name][part] for part in ("weights", "means", "covariances")))


class LinearSchedule(DiscreteProcess):
    """DDPM's noise process."""

    def __init__(self) -> None:
        super().__init__(torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))))

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randint(self.levels, (batch,), generator=generator)


def exact_denoiser(process: NoiseProcess, mixture: Mixture = PRIOR) -> Callable[[Tensor, Tensor], Tensor]:
    """The mixture's denoiser for states of a process, all of a batch at one level."""

    def denoise(noisy: Tensor, level: Tensor) -> Tensor:
        rate, noise = process.exact_rates(level[0].item())
        return mixture.denoise(noisy.flatten(1) / rate, noise / rate).view(-1, *SHAPE)

    return denoise


def operator_of(name: str, batch: int) -> Matrix:
    """A problem's operator, so many times."""
    rows = DATA["problems"][name]["A"].unflatten(-1, SHAPE)
    return matrix_operator(rows.expand(batch, *rows.shape))


def problem(name: str, batch: int, noise: float | None = None) -> LinearProblem:
    """A problem so many times, with its own σ_y if none is given."""
    case = DATA["problems"][name]
    measurement = case["y"].view(1, -1, 1, 1).expand(batch, -1, -1, -1)
    return linear_problem(operator_of(name, batch), measurement, case["sigma_y"] if noise is None else noise)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate of the squared energy distance of two samples [n d], [m d]."""
    within = [torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    return float(2 * torch.cdist(x, y).mean() - within[0] - within[1])
