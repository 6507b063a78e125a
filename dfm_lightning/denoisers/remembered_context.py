"""The share of the context views in a field, computed once for points that are asked for again and again."""

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers.pixelnerf_field import PixelNeRFField
from dfm_lightning.signals import FieldStage, FieldValues, PointsName


class ContextMemory:
    """Sums over the context views, by name of the points and stage, as long as they fit into a budget.

    For the fields of one sampling run: their context views are the same, their noisy views are not.

    Args:
        budget: bytes that may be stored.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._kept: dict[tuple[FieldStage, PointsName], tuple[Tensor, Tensor]] = {}

    def find(
        self, points: Float[Tensor, "b n 3"], stage: FieldStage, name: PointsName
    ) -> Float[Tensor, "b n d"] | None:
        """Return the sums stored for exactly these points, if any."""
        kept = self._kept.get((stage, name))
        # (Of another size, `equal` tells without a look at the numbers.)
        return kept[1] if kept is not None and torch.equal(kept[0], points) else None

    def store(
        self, points: Float[Tensor, "b n 3"], stage: FieldStage, name: PointsName, sums: Float[Tensor, "b n d"]
    ) -> None:
        """Store sums in place of those of earlier points of this name, if there is room."""
        self.used -= sum(_size(tensor) for tensor in self._kept.pop((stage, name), ()))
        size = _size(points) + _size(sums)
        if self.used + size <= self.budget:
            self._kept[stage, name] = points, sums
            self.used += size


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class RememberingField:
    """A field of context views and, last, a noisy one, that does not compute the context's share twice.

    A `RecallingField`: `query_again` gives what `query` gives, up to rounding.

    Args:
        field: the field of all views, at least one of them context.
        memory: of the sampling run that the field belongs to.
    """

    def __init__(self, field: PixelNeRFField, memory: ContextMemory) -> None:
        self.field = field
        self.memory = memory

    @property
    def floats_per_point(self) -> int:
        """Return the numbers that a query holds for each point."""
        return self.field.floats_per_point

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Compute values at points of the scene."""
        return self.field.query(points, stage)

    def query_again(self, points: Float[Tensor, "b n 3"], stage: FieldStage, name: PointsName) -> FieldValues:
        """Compute values at points, reusing the sums of an earlier call."""
        if torch.is_grad_enabled():
            return self.field.query(points, stage)
        contexts = self.field.intrinsics.shape[1] - 1
        sums = self.memory.find(points, stage, name)
        if sums is None:
            sums = self.field.per_view(points, stage, slice(contexts)).sum(dim=1)
            self.memory.store(points, stage, name, sums)
        own = self.field.per_view(points, stage, slice(contexts, None))[:, 0]
        return self.field.joined((sums + own) / (contexts + 1), points, stage)
