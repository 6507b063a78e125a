"""Sampling towards a reward without its gradient: samplers that try several paths and keep the best."""

from dfm_lightning.diffusion.reward_guidance.reward import NearColour, Reward
from dfm_lightning.diffusion.reward_guidance.svdd import SVDD
from dfm_lightning.diffusion.reward_guidance.tree_search import TreeSearch

__all__ = ["SVDD", "NearColour", "Reward", "TreeSearch"]
