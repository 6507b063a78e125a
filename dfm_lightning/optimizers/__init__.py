"""Optimizers and their schedules."""

from dfm_lightning.optimizers.settings import (
    AdamWithWarmup,
    OptimizerChoice,
    OptimizerSettings,
    TorchOptimizer,
    settings_of,
)

__all__ = [
    "AdamWithWarmup",
    "OptimizerChoice",
    "OptimizerSettings",
    "TorchOptimizer",
    "settings_of",
]
