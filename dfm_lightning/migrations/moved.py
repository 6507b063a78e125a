"""Renamed classes and settings of earlier versions, one line each."""

from typing import NamedTuple

# Former class paths, and where the class is now.
MOVED_CLASSES: dict[str, str] = {
    "datamodules.photograph.CameraMove": "datamodules.posed.camera_moves.CameraMove",
}


class MovedSetting(NamedTuple):
    """A setting of a model or a data set that has a new name or place.

    Args:
        owner: the name of the model's or data set's class, without its module.
        old: the setting's place in a config of `owner`, including `init_args`.
        new: its place now, below the same `model` or `data`.
    """

    owner: str
    old: str
    new: str


_OBJECTIVES = {
    "InverseGraphics": (
        "estimate_weight", "perceptual", "perceptual_weight", "distortion_weight", "smoothness_weight",
        "smoothness_depths", "fill_depth", "proposal_weight",
    ),
    "MotionPrediction": (
        "hole_weight", "smoothness_weight", "edge_strength", "magnitude_weight", "perceptual", "perceptual_weight",
    ),
}  # fmt: skip
_OBJECTIVES["DeterministicInverseGraphics"] = _OBJECTIVES["InverseGraphics"]

MOVED_SETTINGS: list[MovedSetting] = [
    MovedSetting(owner, f"model.init_args.{name}", f"model.init_args.objective.{name}")
    for owner, names in _OBJECTIVES.items()
    for name in names
]
