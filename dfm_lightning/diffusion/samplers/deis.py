"""DEIS: the noise as a polynomial through its latest values, integrated exactly (Zhang and Chen 2023)."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.base import HigherOrderSampler
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Point
from dfm_lightning.diffusion.samplers.steps import first_order, usable_order
from dfm_lightning.diffusion.spacing import Spacing


class DEIS(HigherOrderSampler):
    """Diffusion exponential integrator, multistep (tAB-DEIS, ρAB-DEIS). One evaluation a step; order 2 or 3.

    x/α changes by ε dρ with ρ = σ/α. The last step is of first order: the sample is the last estimate.

    Args:
        steps: number of steps, and of evaluations.
        order: 2 or 3; the number of evaluations through which the polynomial goes.
        polynomial_in: the variable of the polynomial: "log_rho" is ln ρ (diffusers), "rho" is ρ (ρAB; linear
            multistep in k-diffusion).
        uneven_below: a step uses an earlier one only if that is at least so many times as long in λ (and all those
            after it are); 0 uses all. The noise bears uneven steps better than the clean estimate does.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        order: int = 2,
        polynomial_in: Literal["log_rho", "rho"] = "log_rho",
        uneven_below: Number = 0,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, order, uneven_below, temperature, threshold_quantile, spacing)
        self.polynomial_in = polynomial_in

    def step(
        self, history: list[Evaluated], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """See `MultistepSampler.step`."""
        result = first_order(history[0], following)
        order = usable_order(self.order, history, following, self.uneven_below)
        if order == 1:
            return result
        integrals = integrals_in_rho if self.polynomial_in == "rho" else integrals_in_log_rho
        weights = integrals([evaluated.point for evaluated in history[:order]], following)
        # The weights add up to ρ_t − ρ_s; that with the newest noise alone is the first-order step.
        newest = history[0].noise
        changes = [
            weight * (past.noise - newest) for weight, past in zip(weights[1:], history[1:order], strict=True)
        ]
        return result + following.signal_rate * sum(changes[1:], changes[0])


def integrals_in_rho(points: list[Point], following: Point) -> list[float]:
    """Return ∫ ℓ_k dρ over the step from the first of the points to the following one.

    ℓ_k is the polynomial in ρ that is 1 at the k-th of the points and 0 at the others.
    """
    start, end = points[0].ratio, following.ratio
    places = [(point.ratio - start) / (end - start) for point in points]
    return [
        float((end - start) * np.diff(np.polynomial.Polynomial(basis).integ()([0.0, 1.0]))[0])
        for basis in lagrange_bases(places)
    ]


def integrals_in_log_rho(points: list[Point], following: Point) -> list[float]:
    """See `integrals_in_rho`; the polynomials are in ln ρ = −λ."""
    end = points[0].log_ratio - following.log_ratio
    places = [points[0].log_ratio - point.log_ratio for point in points]
    # ∫ w^n e^w dw from 0 to the end, by parts.
    moments = [math.expm1(end)]
    for power in range(1, len(points)):
        moments.append(end**power * math.exp(end) - power * moments[-1])
    return [float(points[0].ratio * np.dot(basis, moments)) for basis in lagrange_bases(places)]


def lagrange_bases(places: list[float]) -> list[np.ndarray]:
    """Return the coefficients, constant first, of the polynomials that are 1 at one place and 0 at the others."""
    bases = []
    for index, place in enumerate(places):
        others = places[:index] + places[index + 1 :]
        basis = np.polynomial.polynomial.polyfromroots(others)
        bases.append(basis / math.prod(place - other for other in others))
    return bases
