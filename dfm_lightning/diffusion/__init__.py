"""Noise process, samplers, and the denoising of observations through signals."""

from dfm_lightning.diffusion.denoising import GuidanceSpace, ObservationDenoiser
from dfm_lightning.diffusion.noise_process import (
    CosineProcess,
    DiscreteProcess,
    NoiseProcess,
    cosine_schedule,
)
from dfm_lightning.diffusion.sampler import DDIM, Sampler, SamplingStep, dynamic_threshold

__all__ = [
    "DDIM",
    "CosineProcess",
    "DiscreteProcess",
    "GuidanceSpace",
    "NoiseProcess",
    "ObservationDenoiser",
    "Sampler",
    "SamplingStep",
    "cosine_schedule",
    "dynamic_threshold",
]
