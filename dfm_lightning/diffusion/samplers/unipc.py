"""UniPC: a multistep predictor, and a corrector that costs no evaluation (Zhao et al. 2023)."""

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


class UniPC(HigherOrderSampler):
    """The unified predictor-corrector. One evaluation a step; order p + 1 with the corrector, p without.

    When a level has been evaluated, the step that led there is repeated with that estimate as well (corrector),
    and the next step begins at the result. The estimate itself, and so the sample, is that at the predicted one.

    Args:
        steps: number of steps, and of evaluations.
        order: order p of the predictor, 2 or 3.
        corrector: whether to correct; better not with strong guidance.
        normaliser: B(h) of the paper: "bh2" is e^(−h) − 1, "bh1" is −h.
        uneven_below: a step uses an earlier one only if that is at least so many times as long in λ (and all those
            after it are); 0 uses all.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        order: int = 2,
        corrector: bool = True,
        normaliser: Literal["bh1", "bh2"] = "bh2",
        uneven_below: Number = 0.5,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, order, uneven_below, temperature, threshold_quantile, spacing)
        self.corrector = corrector
        self.normaliser = normaliser

    def step(
        self, history: list[Evaluated], following: Point, steps_left: int, draw_noise: DrawNoise
    ) -> Float[Tensor, "b *o"]:
        """See `MultistepSampler.step`."""
        order = self._order(history, following, steps_left)
        return self._unified(history[:order], following, None)

    def corrected(self, evaluated: Evaluated, history: list[Evaluated], steps_left: int) -> Evaluated:
        """See `MultistepSampler.corrected`."""
        if not history or not self.corrector:
            return evaluated
        order = self._order(history, evaluated.point, steps_left + 1)
        return evaluated._replace(noisy=self._unified(history[:order], evaluated.point, evaluated.clean))

    def _order(self, history: list[Evaluated], following: Point, steps_left: int) -> int:
        return usable_order(min(self.order, steps_left), history, following, self.uneven_below)

    def _unified(
        self, history: list[Evaluated], following: Point, arrived: Float[Tensor, "b *o"] | None
    ) -> Float[Tensor, "b *o"]:
        """Step with all of the history's estimates, and that at the following point if it is known."""
        start = history[0]
        step = following.log_ratio - start.point.log_ratio
        ratios = [(older.point.log_ratio - start.point.log_ratio) / step for older in history[1:]]
        slopes = [(older.clean - start.clean) / r for older, r in zip(history[1:], ratios, strict=True)]
        if arrived is not None:
            ratios.append(1.0)
            slopes.append(arrived - start.clean)
        result = first_order(start, following)
        if not slopes:
            return result
        factor = -step if self.normaliser == "bh1" else math.expm1(-step)
        weights = unified_weights(ratios, step, factor)
        total = sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))
        return result - following.signal_rate * factor * total


def unified_weights(ratios: list[float], step: float, factor: float) -> list[float]:
    """Solve Σ_k ρ_k r_k^(i−1) = i! (−h) φ_(i+1)(−h) / B(h) for i = 1 … n (Zhao et al. 2023, eq. 5).

    With one unknown, ρ = ½ as the authors take it, which is of the same order.
    """
    if len(ratios) == 1:
        return [0.5]
    right, phi = [], math.expm1(-step) / -step
    for power in range(1, len(ratios) + 1):
        phi = (phi - 1 / math.factorial(power)) / -step
        right.append(math.factorial(power) * -step * phi / factor)
    matrix = np.vander(np.array(ratios), increasing=True).T
    return [float(weight) for weight in np.linalg.solve(matrix, np.array(right))]
