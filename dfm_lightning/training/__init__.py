"""Safeguards of every training, whatever its config: whole checkpoints, exact resuming, finite numbers."""

from dfm_lightning.training.guard import guarded

__all__ = ["guarded"]
