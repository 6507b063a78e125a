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
        unless: the place of a setting of the earlier version that replaced this one where it named a class; the
            setting is then dropped.
    """

    owner: str
    old: str
    new: str
    unless: str = ""


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

# Settings of data modules of posed images, and of their views.
_POSED = {
    "scale_augmentation": "training.scale_augmentation",
    "draws_per_scene": "training.draws_per_scene",
    "train_scenes": "scenes.train",
    "val_scenes": "scenes.val",
    "test_scenes": "scenes.test",
    "missing_scenes": "scenes.missing",
    "evaluation_index": "evaluation.index",
    "evaluation_views": "evaluation.novel",
    "masks": "evaluation.masks",
    "predict_split": "prediction.split",
    "predict_scenes": "prediction.scenes",
    "trajectory": "prediction.trajectory",
    "trajectory_frames": "prediction.frames",
    "trajectory_scale": "prediction.scale",
    "trajectory_size": "prediction.size",
    "camera_move": "prediction.move",
}
_CHOICE = "data.init_args.views"
_VIEWS = {
    "context_views": "contexts",
    "novel_views": "novel",
    "frame_distance": "distance",
    "novel_frames": "novel_frames",
}

MOVED_SETTINGS: list[MovedSetting] = [
    *(
        MovedSetting(owner, f"model.init_args.{name}", f"model.init_args.objective.{name}")
        for owner, names in _OBJECTIVES.items()
        for name in names
    ),
    *(
        MovedSetting(owner, f"data.init_args.{old}", f"data.init_args.{new}")
        for owner in ("Co3DDataModule", "RealEstate10kDataModule", "PosedImagesDataModule")
        for old, new in _POSED.items()
    ),
    *(
        MovedSetting(
            owner, f"data.init_args.{old}", f"data.init_args.views.init_args.{new}", "data.init_args.views"
        )
        for owner in ("Co3DDataModule", "RealEstate10kDataModule")
        for old, new in _VIEWS.items()
    ),
]
