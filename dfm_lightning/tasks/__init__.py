"""The problems: one LightningModule each."""

from dfm_lightning.tasks.gan_inversion import EvaluatedPatch, GANInversion, SampledCode
from dfm_lightning.tasks.inverse_graphics import InverseGraphics
from dfm_lightning.tasks.scenes import EvaluatedScene, RenderedViews, SampledScene

__all__ = [
    "EvaluatedPatch",
    "EvaluatedScene",
    "GANInversion",
    "InverseGraphics",
    "RenderedViews",
    "SampledCode",
    "SampledScene",
]
