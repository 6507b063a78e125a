"""Data modules of posed images from nested dictionaries, so that a test names only the settings it varies."""

from typing import Any, TypeVar

from datamodules.co3d import Co3DDataModule, SequenceCounts
from datamodules.posed.datamodule import PosedImagesDataModule
from datamodules.posed.settings import EvaluationViews, PredictedViews, SceneCounts, TrainingDraws

Module = TypeVar("Module", bound=PosedImagesDataModule)


def made(kind: type[Module], usual: dict[str, Any], **options: Any) -> Module:
    """Make a data module; options win over the usual settings, one by one within a group."""
    groups: dict[str, Any] = {
        "views": kind.stock_parts["views"],
        "scenes": SequenceCounts if issubclass(kind, Co3DDataModule) else SceneCounts,
        "training": TrainingDraws,
        "evaluation": EvaluationViews,
        "prediction": PredictedViews,
    }
    settings = {**usual, **options}
    for name in groups.keys() & settings.keys():
        if isinstance(settings[name], dict):
            settings[name] = groups[name](**{**usual.get(name, {}), **settings[name]})
    return kind(**settings)
