"""Outputs of a run: predictions, reports, pictures, and progress while it runs."""

from dfm_lightning.callbacks.code_report import CodeReport
from dfm_lightning.callbacks.code_writer import CodeWriter
from dfm_lightning.callbacks.distillation import ProgressiveDistillation
from dfm_lightning.callbacks.evaluation_report import EvaluationReport
from dfm_lightning.callbacks.linear_report import LinearReport
from dfm_lightning.callbacks.linear_writer import LinearWriter
from dfm_lightning.callbacks.motion_report import MotionReport
from dfm_lightning.callbacks.motion_writer import MotionWriter
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.callbacks.sample_pictures import SamplePictures
from dfm_lightning.callbacks.scene_report import SceneReport
from dfm_lightning.callbacks.scene_writer import SceneWriter
from dfm_lightning.callbacks.score_report import ScoreReport
from dfm_lightning.callbacks.tensor_writer import TensorWriter

__all__ = [
    "CodeReport",
    "CodeWriter",
    "EvaluationReport",
    "LinearReport",
    "LinearWriter",
    "MotionReport",
    "MotionWriter",
    "PredictionWriter",
    "ProgressiveDistillation",
    "SamplePictures",
    "SceneReport",
    "SceneWriter",
    "ScoreReport",
    "TensorWriter",
]
