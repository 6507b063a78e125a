"""A Gaussian mixture whose denoiser is known in closed form, and what reference code sampled from it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from dfm_lightning.diffusion import (
    DDIM,
    DEIS,
    GHVB,
    PLMS,
    DPMSolver,
    DPMSolverSDE,
    DPMSolverSinglestep,
    HeavyBall,
    Heun,
    NoiseProcess,
    Sampler,
    Spacing,
    UniPC,
)
from dfm_lightning.types import Level

FILE = Path(__file__).parents[1] / "data" / "samplers_mixture.pt"


def reference() -> dict[str, Any]:
    """The contents of the reference file (tests/data/README.md)."""
    return torch.load(FILE, weights_only=True)


class Mixture(NamedTuple):
    """Isotropic Gaussians in d dimensions; observations are their points, [b d]."""

    weights: Float[Tensor, "k"]
    means: Float[Tensor, "k d"]
    stds: Float[Tensor, "k"]

    def mean_given(self, noisy: Float[Tensor, "b d"], signal_rate: float, noise_rate: float) -> Tensor:
        """E[x₀ | x] at one level."""
        variance = signal_rate**2 * self.stds**2 + noise_rate**2
        apart = noisy[:, None] - signal_rate * self.means
        likelihood = self.weights.log() - 0.5 * noisy.shape[1] * variance.log()
        share = (likelihood - 0.5 * apart.square().sum(dim=2) / variance).softmax(dim=1)
        centres = self.means + (signal_rate * self.stds**2 / variance)[:, None] * apart
        return (share[..., None] * centres).sum(dim=1)

    def denoiser(self, process: NoiseProcess) -> "ExactDenoiser":
        """The exact denoiser on a process."""
        return ExactDenoiser(self, process)

    def solution(
        self, noisy: Float[Tensor, "b d"], start: tuple[float, float], end: tuple[float, float]
    ) -> Tensor:
        """Solve the probability-flow equation from the rates (α, σ) at the start to those at the end.

        With y = x/α and ρ = σ/α: dy/d(ln ρ) = y − E[x₀ | x]. An end without noise is approached to ρ = 1e-6.
        """
        ratios = [noise_rate / signal_rate for signal_rate, noise_rate in (start, end)]

        def slope(log_ratio: float, flat: np.ndarray) -> np.ndarray:
            points, ratio = torch.from_numpy(flat).view(noisy.shape), float(np.exp(log_ratio))
            return (points - self.mean_given(points, 1.0, ratio)).flatten().numpy()

        ends = (np.log(ratios[0]), np.log(max(ratios[1], 1e-6)))
        solved = solve_ivp(slope, ends, (noisy / start[0]).flatten().numpy(), "DOP853", rtol=1e-11, atol=1e-13)
        return torch.from_numpy(solved.y[:, -1]).view(noisy.shape) * end[0]


class ExactDenoiser:
    """A denoiser of observations [b d] that knows the mixture, and counts where it was asked."""

    def __init__(self, mixture: Mixture, process: NoiseProcess) -> None:
        self.mixture = mixture
        self.process = process
        self.levels: list[float] = []
        self.estimates: list[Tensor] = []

    def __call__(self, noisy: Float[Tensor, "b d"], level: Level) -> Tensor:
        self.levels.append(level[0].item())
        self.estimates.append(self.mixture.mean_given(noisy, *self.process.exact_rates(self.levels[-1])))
        return self.estimates[-1]


def sampler_named(name: str, steps: int, spacing: Spacing | None = None) -> Sampler:
    """The sampler that computes what the reference file has under a name; earlier steps are always used."""
    always = {"uneven_below": 0, "spacing": spacing}
    method, _, variant = name.partition("_")
    if method in ("ghvb", "hb"):
        order, momentum = int(float(variant)) + 1, round(float(variant) % 1, 6)
        kind = GHVB if method == "ghvb" else HeavyBall
        return kind(steps, order, momentum, spacing=spacing)
    samplers = {
        "ddim": lambda: DDIM(steps, spacing=spacing),
        "ddpm": lambda: DDIM(steps, eta=1.0, spacing=spacing),
        "euler_a": lambda: DDIM(steps, eta=1.0, spacing=spacing),
        "dpmpp_2m": lambda: DPMSolver(steps, order=2, **always),
        "dpmpp_2m_heun": lambda: DPMSolver(steps, order=2, second_order="integral", **always),
        "dpmpp_3m": lambda: DPMSolver(steps, order=3, **always),
        "dpmpp_2s": lambda: DPMSolverSinglestep(steps, spacing=spacing),
        "sde_2m": lambda: DPMSolverSDE(steps, order=2, **always),
        "sde_3m": lambda: DPMSolverSDE(steps, order=3, **always),
        "unipc_2": lambda: UniPC(steps, order=2, **always),
        "unipc_3": lambda: UniPC(steps, order=3, **always),
        "deis_2_logrho": lambda: DEIS(steps, order=2, **always),
        "deis_3_logrho": lambda: DEIS(steps, order=3, **always),
        "deis_2_rho": lambda: DEIS(steps, order=2, polynomial_in="rho", **always),
        "deis_3_rho": lambda: DEIS(steps, order=3, polynomial_in="rho", **always),
        "ipndm_4": lambda: PLMS(steps, spacing=spacing),
        "ipndm_4_first": lambda: PLMS(steps, spacing=spacing),
        "plms_4": lambda: PLMS(steps, warm_up="heun", spacing=spacing),
        "f_pndm": lambda: PLMS(steps, warm_up="runge_kutta", spacing=spacing),
        "heun": lambda: Heun(steps, spacing=spacing),
        "exp_heun": lambda: Heun(steps, integrates="lambda", spacing=spacing),
    }
    return samplers[name]()
