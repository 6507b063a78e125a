"""Samplers found for trained models: `dfm tune-sampler`."""

from dfm_lightning.tuning.tuning import Tuning, tune_sampler, validation_scenes

__all__ = ["Tuning", "tune_sampler", "validation_scenes"]
