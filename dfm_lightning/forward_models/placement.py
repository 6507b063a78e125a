"""Fine points of rays that several evaluations of one sampling run share."""

from jaxtyping import Float
from torch import Tensor


class Placement:
    """Distances of the fine points of one sampling run, by chunk of rays; placed anew in every n-th evaluation.

    For evaluations that render the same rays. Rays whose chunks or numbers of fine points change are placed anew.

    Args:
        evaluations: n, at least 1.
    """

    def __init__(self, evaluations: int) -> None:
        self._evaluations = evaluations
        self._begun = 0
        self._placed: dict[int, Float[Tensor, "b n f"]] = {}

    def begin(self) -> None:
        """Begin an evaluation."""
        if self._begun % self._evaluations == 0:
            self._placed.clear()
        self._begun += 1

    def find(self, first: int, batch: int, rays: int, samples: int) -> Float[Tensor, "b n f"] | None:
        """Return the distances of a chunk that begins with the ray of number `first`, if it has been placed."""
        placed = self._placed.get(first)
        return placed if placed is not None and placed.shape == (batch, rays, samples) else None

    def place(self, first: int, distances: Float[Tensor, "b n f"]) -> None:
        """Keep the distances of a chunk for the evaluations that follow."""
        self._placed[first] = distances
