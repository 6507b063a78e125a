"""DC-Solver: UniPC with estimates compensated in time (Zhao et al. 2024)."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import Evaluated, Point
from dfm_lightning.diffusion.samplers.unipc import UniPC
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.ranges import check_within


class DCSolver(UniPC):
    """UniPC with an order and a compensation for each step, as `dfm tune-sampler` finds them.

    One evaluation a step.

    A compensated estimate takes the place of the newest one in the history: the polynomial through it and up to
    two earlier ones, at level γ t + (1 − γ) t', where t is the newest level and t' the one before it. γ = 1 leaves
    it as it is. The sample is the last estimate, which is never compensated.

    Args:
        steps: number of steps, and of evaluations.
        orders: order of each step but the first and the last, 1 to 3 (those are of first order); 2 if none are
            given.
        compensation: γ of each evaluation but the first and the last, 0 to 2; 1 if none are given.
        corrector: whether to correct; better not with strong guidance.
        normaliser: B(h) of UniPC: "bh2" is e^(−h) − 1, "bh1" is −h.
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        steps: int = 50,
        orders: list[int] | None = None,
        compensation: list[Number] | None = None,
        corrector: bool = True,
        normaliser: Literal["bh1", "bh2"] = "bh2",
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        inner = max(steps - 2, 0)
        self.orders = [2] * inner if orders is None else list(orders)
        self.compensation: list[Number] = [1.0] * inner if compensation is None else list(compensation)
        check_within(1, 3, orders=self.orders)
        check_within(0, 2, compensation=self.compensation)
        for name, given in (("orders", self.orders), ("compensation", self.compensation)):
            if len(given) != inner:
                raise ValueError(f"{name} must list {inner} numbers, 2 fewer than steps, got {len(given)}")
        super().__init__(
            steps,
            max(2, *self.orders) if self.orders else 2,
            corrector,
            normaliser,
            uneven_below=0,
            temperature=temperature,
            threshold_quantile=threshold_quantile,
            spacing=spacing,
        )

    def corrected(self, evaluated: Evaluated, history: list[Evaluated], steps_left: int) -> Evaluated:
        """See `MultistepSampler.corrected`; here, compensate the estimate as well."""
        result = super().corrected(evaluated, history, steps_left)
        place = self.steps - steps_left - 1
        if not 0 <= place < len(self.compensation) or self.compensation[place] == 1:
            return result
        return result._replace(clean=interpolated([result, *history[:2]], self.compensation[place]))

    def _order(self, history: list[Evaluated], following: Point, steps_left: int) -> int:
        place = self.steps - steps_left - 1
        return min(self.orders[place], len(history)) if 0 <= place < len(self.orders) else 1


def interpolated(history: list[Evaluated], share: Number) -> Float[Tensor, "b *o"]:
    """Return the clean estimate at `share` of the way from the second newest level to the newest (Lagrange)."""
    levels = [evaluated.point.level for evaluated in history]
    wanted = share * levels[0] + (1 - share) * levels[1]
    total = None
    for level, evaluated in zip(levels, history, strict=True):
        weight = 1.0
        for other in levels:
            if other != level:
                weight *= (wanted - other) / (level - other)
        total = weight * evaluated.clean if total is None else total + weight * evaluated.clean
    assert total is not None
    return total
