"""Losses beyond the squared error: distortion, smoothness of depth and flow, perceptual distance."""

from dfm_lightning.losses.distortion import distortion, ray_distortion
from dfm_lightning.losses.perceptual import PerceptualLoss
from dfm_lightning.losses.smoothness import edge_aware_flow_smoothness, edge_aware_smoothness

__all__ = ["PerceptualLoss", "distortion", "edge_aware_flow_smoothness", "edge_aware_smoothness", "ray_distortion"]
