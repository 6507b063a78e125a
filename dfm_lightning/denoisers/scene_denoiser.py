"""The common part of denoisers of scenes, whatever their radiance fields are made of."""

from dfm_lightning.denoisers.guided_field import GuidedField
from dfm_lightning.interfaces import RadianceField, SignalDenoiser


class SceneDenoiser(SignalDenoiser):
    """A denoiser whose signals are radiance fields."""

    def guide(self, unconditional: RadianceField, conditional: RadianceField, scale: float) -> GuidedField:
        """Guide the fields' values at each point, so that the guided signal is a scene too."""
        return GuidedField(unconditional, conditional, scale)
