"""A smooth absolute error."""

from jaxtyping import Float
from torch import Tensor


def charbonnier(found: Float[Tensor, "*s"], true: Float[Tensor, "*s"], scale: float = 0.1) -> Float[Tensor, ""]:
    """Return the mean of s(√(1 + d²/s²) − 1): d²/2s near 0, |d| − s far from it (SparseFusion has s = 0.1)."""
    return ((1 + ((found - true) / scale).square()).sqrt() - 1).mean() * scale
