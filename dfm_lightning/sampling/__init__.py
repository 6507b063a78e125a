"""Sampling: the contract of models that can be tested and predicted with, and its implementation."""

from dfm_lightning.sampling.diffusion_sampling import DiffusionSampling
from dfm_lightning.sampling.draws import NoiseNames, draw_groups, draw_signals, one_by_one, scores_of
from dfm_lightning.sampling.evaluation import advanced_in_evaluation, evaluated, evaluating
from dfm_lightning.sampling.next_observation import disagreement, ranked
from dfm_lightning.sampling.plan import Plan
from dfm_lightning.sampling.predicting import PredictingModule
from dfm_lightning.sampling.protocol import Predictor, as_predictor

__all__ = [
    "DiffusionSampling",
    "NoiseNames",
    "Plan",
    "PredictingModule",
    "Predictor",
    "advanced_in_evaluation",
    "as_predictor",
    "disagreement",
    "draw_groups",
    "draw_signals",
    "evaluated",
    "evaluating",
    "one_by_one",
    "ranked",
    "scores_of",
]
