"""The common part of denoisers of scenes, whatever their radiance fields are made of."""

from abc import abstractmethod
from typing import Generic, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers.guided_field import GuidedField
from dfm_lightning.interfaces import Conditioning, SignalDenoiser
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Batch, Cameras, LossTerm, Views


@runtime_checkable
class EstimatingConditioning(Protocol):
    """A conditioning with a deterministic estimate of the target views: first its colours, in [-1, 1]."""

    @property
    def estimate(self) -> Float[Tensor, "b v c h w"]: ...


class SceneDenoiser(SignalDenoiser[RadianceField, Cameras, Conditioning], Generic[Conditioning]):
    """A denoiser whose signals are radiance fields."""

    @abstractmethod
    def deterministic_field(self, context: Views) -> RadianceField:
        """Return the scene as the context alone determines it."""

    def guide(self, unconditional: RadianceField, conditional: RadianceField, scale: float) -> GuidedField:
        """Guide the fields' values at each point, so that the guided signal is a scene too."""
        return GuidedField(unconditional, conditional, scale)

    def warm_start_losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the losses of the part that a warm start trains alone.

        None by default: then a warm start trains the deterministic estimate.
        """
        return {}

    def adopt_deterministic_mlp(self) -> None:
        """Use, after a warm start, the part that it has trained; by default this needs no action."""
