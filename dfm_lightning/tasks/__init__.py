"""The problems, one LightningModule each."""

from dfm_lightning.tasks.deterministic_scenes import DeterministicInverseGraphics
from dfm_lightning.tasks.distillation import Distillation, DistilledScenes
from dfm_lightning.tasks.epipolar_views import EpipolarViews
from dfm_lightning.tasks.gan_inversion import EvaluatedPatch, GANInversion, SampledCode
from dfm_lightning.tasks.inverse_graphics import InverseGraphics
from dfm_lightning.tasks.latent_views import LatentViews
from dfm_lightning.tasks.linear_inverse import LinearInverseProblem
from dfm_lightning.tasks.linear_scores import EvaluatedImage, LinearSolution
from dfm_lightning.tasks.motion_prediction import EvaluatedMotion, MotionPrediction
from dfm_lightning.tasks.objectives import MotionObjective, SceneObjective
from dfm_lightning.tasks.scenes import EvaluatedScene, RenderedViews, SampledScene, SynthesisedViews

__all__ = [
    "DeterministicInverseGraphics",
    "Distillation",
    "DistilledScenes",
    "EpipolarViews",
    "EvaluatedImage",
    "EvaluatedMotion",
    "EvaluatedPatch",
    "EvaluatedScene",
    "GANInversion",
    "InverseGraphics",
    "LatentViews",
    "LinearInverseProblem",
    "LinearSolution",
    "MotionObjective",
    "MotionPrediction",
    "RenderedViews",
    "SampledCode",
    "SampledScene",
    "SceneObjective",
    "SynthesisedViews",
]
