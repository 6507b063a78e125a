"""The settings of data modules of posed images, in groups: scenes, training, evaluation, prediction."""

from dataclasses import dataclass

from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.scenes import MissingScenes, Split
from dfm_lightning.ranges import check_at_least, check_finite


@dataclass(frozen=True)
class SceneCounts:
    """The number of scenes for each purpose.

    Args:
        val: scenes held out of the training split for validation.
        test: scenes in test and predict, the first that can be read; all if null.
        missing: what to do about scenes of an evaluation index that the data set lacks: "error", or "skip" them
            and report their number.
    """

    val: int = 32
    test: int | None = 100
    missing: MissingScenes = "error"

    def __post_init__(self) -> None:
        check_at_least(0, val=self.val)
        check_at_least(1, test=self.test)


@dataclass(frozen=True)
class TrainingDraws:
    """The random draws of training items.

    Args:
        scale_augmentation: each scene is scaled by a random factor between this and its inverse; null for none.
        draws_per_scene: items of each scene in an epoch.
    """

    scale_augmentation: float | None = None
    draws_per_scene: int = 1

    def __post_init__(self) -> None:
        check_at_least(1, scale_augmentation=self.scale_augmentation, draws_per_scene=self.draws_per_scene)


@dataclass(frozen=True)
class EvaluationViews:
    """The views of test scenes, and what is read besides them.

    Args:
        novel: number of novel views of a test scene without an index; the data set's usual number if null.
        index: JSON file that says which frames of which scenes are context and targets in test and predict
            (pixelSplat's evaluation_index_re10k.json).
        masks: whether the truth of validation and test holds foreground masks, which the data set must have.
    """

    novel: int | None = None
    index: str | None = None
    masks: bool = False

    def __post_init__(self) -> None:
        check_at_least(0, novel=self.novel)


@dataclass(frozen=True)
class PredictedViews:
    """The scenes and the cameras of a prediction.

    Args:
        split: split that predictions are made for.
        scenes: names of the scenes to predict, instead of the first that tests take.
        trajectory: "circle", around a circle fitted to the scene's cameras; "dataset", the scene's own cameras;
            "interpolation", smoothly through some of them; "extrapolation", from the context to the target and
            further; "move", as `move` says; or the path to a camera file of RealEstate10k (.txt) or a
            transforms.json, whose first camera is put in the context's place. The data set's usual one if null.
        frames: number of cameras; at most this many of a file.
        size: height and width of predicted views in pixels; `image_size` if null.
        scale: factor on a file's translations.
        move: how the camera moves away from the context; the data set's usual move if null.
    """

    split: Split = "test"
    scenes: list[str] | None = None
    trajectory: str | None = None
    frames: int = 60
    size: int | None = None
    scale: float = 1.0
    move: CameraMove | None = None

    def __post_init__(self) -> None:
        check_at_least(1, frames=self.frames, size=self.size)
        check_finite(scale=self.scale)
