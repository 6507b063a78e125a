"""Steps from one level to the next, of first order, and the order that a history allows."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.samplers.evaluation import Evaluated, Point


def first_order(evaluated: Evaluated, following: Point, clean: Tensor | None = None) -> Float[Tensor, "b *o"]:
    """Step as if the clean estimate (`clean`, or that of the evaluation) stayed the same: DDIM, DPM-Solver-1."""
    clean = evaluated.clean if clean is None else clean
    current = evaluated.point
    state = following.noise_rate / current.noise_rate
    return state * evaluated.noisy + (following.signal_rate - state * current.signal_rate) * clean


def along_noise(evaluated: Evaluated, following: Point, noise: Float[Tensor, "b *o"]) -> Float[Tensor, "b *o"]:
    """Step as if the noise stayed the same, at `noise` instead of the evaluation's own.

    It is computed as a correction of the first-order step: at the noisiest levels, where α is nearly 0, a clean
    observation computed from noise would consist of rounding errors alone.
    """
    change = following.noise_rate - following.signal_rate * evaluated.point.ratio
    return first_order(evaluated, following) + change * (noise - evaluated.noise)


def usable_order(order: int, history: list[Evaluated], following: Point, uneven_below: Number) -> int:
    """Return the order of a multistep step: at most one above the number of earlier steps that are long enough.

    An extrapolation from a short step to a long one multiplies the difference of two estimates. Steps back to the
    first one shorter than `uneven_below` times the step to be made, in λ, are used.
    """
    step = following.log_ratio - history[0].point.log_ratio
    usable = 1
    for newer, older in pairwise(history):
        if usable == order or newer.point.log_ratio - older.point.log_ratio < uneven_below * step:
            break
        usable += 1
    return usable
