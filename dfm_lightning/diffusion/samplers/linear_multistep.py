"""Weights of linear multistep methods with even steps, without and with momentum."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number

# Adams–Bashforth's formula in backward differences of the derivative: Σ γ_i ∇^i.
DIFFERENCES = (1, 1 / 2, 5 / 12, 3 / 8)


def check_order(order: int) -> None:
    """Refuse an order that these methods do not have."""
    if not 1 <= order <= len(DIFFERENCES):
        raise ValueError(f"order must be 1 to {len(DIFFERENCES)}, got {order}")


def adams_bashforth(order: int, momentum: Number = 1.0) -> list[float]:
    """Return the weights of the newest derivative, the one before it, and so on.

    With momentum β < 1 they weigh velocities v ← (1 − β) v + β f in place of the derivatives f, such that the step
    is of the same order (GHVB, Wizadwongsa et al. 2023): f = v + ((1 − β)/β) ∇v is put into Adams–Bashforth's
    formula, which is cut off after as many differences.
    """
    delay = (1 - momentum) / momentum
    coefficients = list(DIFFERENCES[:order])
    for index in range(1, order):
        coefficients[index] += delay * DIFFERENCES[index - 1]
    # ∇ = 1 − (shift by one step).
    shift = np.polynomial.Polynomial([1.0, -1.0])
    weights = np.polynomial.Polynomial(coefficients)(shift)
    return [float(weight) for weight in np.atleast_1d(weights.coef)]


def weighted(tensors: Sequence[Float[Tensor, "*o"]], weights: Sequence[float]) -> Float[Tensor, "*o"]:
    """Return the weighted sum of tensors."""
    terms = [weight * tensor for weight, tensor in zip(weights, tensors, strict=True)]
    return sum(terms[1:], terms[0])
