"""Diffusion with forward models: sample signals that nobody ever observed.

This module exports what Python users need (docs/python.md). Names are imported on first use, so that importing the
package takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfm_lightning.api import export, load, save
    from dfm_lightning.errors import UserError
    from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
    from dfm_lightning.module import DiffusionWithForwardModel
    from dfm_lightning.sampling import PredictingModule, Predictor
    from dfm_lightning.tasks import GANInversion, InverseGraphics, MotionPrediction
    from dfm_lightning.types import Batch, Cameras, Moment, Prediction, Request, Views

__version__ = "0.1.0"

_HOMES = {
    "api": ("export", "load", "save"),
    "errors": ("UserError",),
    "interfaces": ("ForwardModel", "SignalDenoiser"),
    "module": ("DiffusionWithForwardModel",),
    "sampling": ("PredictingModule", "Predictor"),
    "tasks": ("GANInversion", "InverseGraphics", "MotionPrediction"),
    "types": ("Batch", "Cameras", "Moment", "Prediction", "Request", "Views"),
}
_HOME_OF = {name: f"dfm_lightning.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Cameras",
    "DiffusionWithForwardModel",
    "ForwardModel",
    "GANInversion",
    "InverseGraphics",
    "Moment",
    "MotionPrediction",
    "PredictingModule",
    "Prediction",
    "Predictor",
    "Request",
    "SignalDenoiser",
    "UserError",
    "Views",
    "__version__",
    "export",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dfm_lightning' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
