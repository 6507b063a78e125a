"""The hourglass transformer, and the linear operators in it."""

from dfm_lightning.networks.hourglass.degradation import FeatureDegradation, Measured
from dfm_lightning.networks.hourglass.hourglass import AUGMENTATIONS, Hourglass, Level

__all__ = ["AUGMENTATIONS", "FeatureDegradation", "Hourglass", "Level", "Measured"]
