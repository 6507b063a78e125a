"""Classifier-free guidance of radiance fields."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.signals import FieldStage, FieldValues, PointsName, RadianceField, RecallingField


class GuidedField(NamedTuple):
    """The field u + s (c − u), point by point, for an unconditional field u, a conditional one c and a scale s.

    Being a field, its images agree with each other from all sides, unlike images that are guided one by one.

    The quantities extrapolated are a point's contributions to the light of a ray, to first order in a short piece
    of it: its density σ, and its emission σ·k for the colour k (Max 1995). A colour by itself contributes nothing:
    at zero density it is invisible, and nothing has taught the field its value.

        σ = σᵤ + s (σ_c − σᵤ) σ k = σᵤ kᵤ + s (σ_c k_c − σᵤ kᵤ)

    Dividing the second by the first gives an extrapolation of colours as well, with a scale of its own at each
    point:

        k = kᵤ + t (k_c − kᵤ),  t = s σ_c / σ

    For s > 1, t is 1 where u is empty, and k is c's colour; it is s where both are equally dense. Where u is
    denser than c, it would grow without bound as σ falls to 0, since a faint point cannot emit that much. It is
    therefore kept within 0, 1 and s: colours are driven no further than by s itself, and emission falls to 0 with
    the density. Then k is clamped to [0, 1], and σ to 0 and above: emission is neither negative nor more than the
    density allows. Where σ is 0, k is invisible; it is c's or u's own colour, or between them. Features, which are
    composited like colours, are extrapolated with the same t.
    """

    unconditional: RadianceField
    conditional: RadianceField
    scale: float

    @property
    def floats_per_point(self) -> int:
        """Return the larger of the two queries' memory, including what one leaves behind while the other runs."""
        return max(self.unconditional.floats_per_point, self.conditional.floats_per_point) + 256

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Compute values of the guided field."""
        return self._guided(self.unconditional.query(points, stage), self.conditional.query(points, stage))

    def query_again(self, points: Float[Tensor, "b n 3"], stage: FieldStage, name: PointsName) -> FieldValues:
        """Compute the same values, with what the two fields know of the points."""
        parts = (self.unconditional, self.conditional)
        u, c = (
            part.query_again(points, stage, name)
            if isinstance(part, RecallingField)
            else part.query(points, stage)
            for part in parts
        )
        return self._guided(u, c)

    def _guided(self, u: FieldValues, c: FieldValues) -> FieldValues:
        density = (u.density + self.scale * (c.density - u.density)).clamp(min=0)
        scale = self._colour_scale(c.density, density)[..., None]
        colour, features = (a + scale * (b - a) for a, b in ((u.colour, c.colour), (u.features, c.features)))
        return FieldValues(colour.clamp(0, 1), density, features)

    def _colour_scale(
        self, conditional_density: Float[Tensor, "b n"], density: Float[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Return t of each point."""
        exists = density > 0
        # Nothing is divided by 0: even an unused quotient would have a gradient, which is not finite.
        scale = self.scale * conditional_density / torch.where(exists, density, 1.0)
        unseen = min(max(self.scale, 0.0), 1.0)
        return torch.where(exists, scale.clamp(min(self.scale, 0.0), max(self.scale, 1.0)), unseen)
