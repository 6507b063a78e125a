"""Samplers, one file for each family."""

from dfm_lightning.diffusion.samplers.base import MultistepSampler, Sampler, last_step
from dfm_lightning.diffusion.samplers.dc_solver import DCSolver
from dfm_lightning.diffusion.samplers.ddim import DDIM
from dfm_lightning.diffusion.samplers.deis import DEIS
from dfm_lightning.diffusion.samplers.dpm_solver import DPMSolver, DPMSolverSDE, DPMSolverSinglestep
from dfm_lightning.diffusion.samplers.evaluation import (
    Denoise,
    DrawNoise,
    Estimate,
    SamplingStep,
    dynamic_threshold,
)
from dfm_lightning.diffusion.samplers.heun import Heun
from dfm_lightning.diffusion.samplers.momentum import GHVB, HeavyBall
from dfm_lightning.diffusion.samplers.pndm import PLMS
from dfm_lightning.diffusion.samplers.time_shift import TimeShift
from dfm_lightning.diffusion.samplers.unipc import UniPC

__all__ = [
    "DDIM",
    "DEIS",
    "GHVB",
    "PLMS",
    "DCSolver",
    "DPMSolver",
    "DPMSolverSDE",
    "DPMSolverSinglestep",
    "Denoise",
    "DrawNoise",
    "Estimate",
    "HeavyBall",
    "Heun",
    "MultistepSampler",
    "Sampler",
    "SamplingStep",
    "TimeShift",
    "UniPC",
    "dynamic_threshold",
    "last_step",
]
