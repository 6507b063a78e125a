"""Denoisers: from context and a noisy target observation to the signal."""

from dfm_lightning.denoisers.backprojection import BackprojectionDenoiser, DiTDenoiser, UNetDenoiser
from dfm_lightning.denoisers.image_to_motion import ImageToMotion
from dfm_lightning.denoisers.look_guidance import LookGuidance
from dfm_lightning.denoisers.mlp import MLPDenoiser
from dfm_lightning.denoisers.operator_denoiser import OperatorConditioning, OperatorDenoiser
from dfm_lightning.denoisers.patch_to_code import PatchToCode
from dfm_lightning.denoisers.pixelnerf import PixelNeRFConditioning, PixelNeRFDenoiser
from dfm_lightning.denoisers.view_lifting import VolumeConditioning
from dfm_lightning.denoisers.volume import VolumeDenoiser

__all__ = [
    "BackprojectionDenoiser",
    "DiTDenoiser",
    "ImageToMotion",
    "LookGuidance",
    "MLPDenoiser",
    "OperatorConditioning",
    "OperatorDenoiser",
    "PatchToCode",
    "PixelNeRFConditioning",
    "PixelNeRFDenoiser",
    "UNetDenoiser",
    "VolumeConditioning",
    "VolumeDenoiser",
]
