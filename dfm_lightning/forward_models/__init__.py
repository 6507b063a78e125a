"""Forward models: how signals are observed."""

from dfm_lightning.forward_models.image_generation import ImageGeneration
from dfm_lightning.forward_models.image_warping import ImageWarping, WarpingDetails
from dfm_lightning.forward_models.volume_rendering import RenderingDetails, VolumeRendering

__all__ = ["ImageGeneration", "ImageWarping", "RenderingDetails", "VolumeRendering", "WarpingDetails"]
