"""Classifier-free guidance of radiance fields."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.interfaces import FieldStage, FieldValues, RadianceField


class GuidedField(NamedTuple):
    """The field u + scale (c − u), point by point, for an unconditional field u and a conditional one c.

    Being a field, it has images that agree with each other from all sides, unlike images that are guided one
    by one. Colour is kept within [0, 1], density at 0 or above.
    """

    unconditional: RadianceField
    conditional: RadianceField
    scale: float

    @property
    def floats_per_point(self) -> int:
        """The larger of the two queries and what it leaves behind while the other runs."""
        return max(self.unconditional.floats_per_point, self.conditional.floats_per_point) + 256

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Values of the guided field."""
        u, c = self.unconditional.query(points, stage), self.conditional.query(points, stage)
        colour, density, features = (a + self.scale * (b - a) for a, b in zip(u, c, strict=True))
        return FieldValues(colour.clamp(0, 1), density.clamp(min=0), features)
