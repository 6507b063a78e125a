"""The common part of denoisers of scenes, whatever their radiance fields are made of."""

from dfm_lightning.denoisers.guided_field import GuidedField
from dfm_lightning.interfaces import RadianceField, SignalDenoiser
from dfm_lightning.types import Batch, LossTerm


class SceneDenoiser(SignalDenoiser):
    """A denoiser whose signals are radiance fields."""

    def guide(self, unconditional: RadianceField, conditional: RadianceField, scale: float) -> GuidedField:
        """Guide the fields' values at each point, so that the guided signal is a scene too."""
        return GuidedField(unconditional, conditional, scale)

    def warm_start_losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the losses of the part that a warm start trains alone.

        None by default: then a warm start trains the deterministic estimate.
        """
        return {}

    def adopt_deterministic_mlp(self) -> None:
        """Begin, at the end of a warm start, with what it has trained; by default nothing has to be done."""
