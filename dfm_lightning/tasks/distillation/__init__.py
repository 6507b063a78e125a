"""Distilling a view-conditioned diffusion model into one radiance field for a scene (SparseFusion, 4.4)."""

from dfm_lightning.tasks.distillation.scenes import DistilledScenes
from dfm_lightning.tasks.distillation.settings import Distillation

__all__ = ["Distillation", "DistilledScenes"]
