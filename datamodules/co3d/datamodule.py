"""`Co3DDataModule`: Co3D (version 2), or anything in its layout, for Lightning."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from datamodules.co3d.object_crops import ObjectCrop
from datamodules.co3d.reader import Co3DReader, Co3DScene
from datamodules.co3d.scales import SceneScale
from datamodules.co3d.scenes import (
    Category,
    ScaledSequence,
    Skipped,
    describe_skipped,
    open_category,
    open_scenes,
    require_scenes,
    select_sequences,
)
from datamodules.co3d.truth import known_of_views, valid_of_views
from datamodules.hidden_looks import HiddenLooks, open_looks
from datamodules.posed.back_from_target import BackFromTarget
from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.datamodule import PosedImagesDataModule
from datamodules.posed.evaluation import KnownTruth, nothing_known
from datamodules.posed.scenes import MissingScenes, Scene, Split
from datamodules.posed.settings import SceneCounts, TrainingDraws
from datamodules.posed.training import Attempts
from datamodules.posed.trajectories import AroundScene
from datamodules.posed.view_choice import ViewChoice
from dfm_lightning.geometry.cameras import look_at
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.wording import counted

# The splits that each of the trainer's functions reads.
_SPLITS: dict[str | None, list[Split]] = {"fit": ["train", "val"], "validate": ["val"], "test": ["test"]}
# Frames of each training scene that the mean image is taken over.
_FRAMES_IN_MEAN = 10
# How far away the middle of a photograph is where scenes keep their own units, in Co3D's.
_DEPTH_OF_PHOTOGRAPHS = 10.0


@dataclass(frozen=True)
class SequenceCounts:
    """The number of sequences of each category, those with the best camera quality score.

    Args:
        train: training sequences; all if null.
        val: validation sequences; all if null.
        test: sequences in test and predict; all if null.
        missing: what to do about listed sequences that have not been downloaded, and about test scenes with an
            unreadable frame: "error", or "skip" them and report their number. Without "skip", training replaces
            draws of missing sequences, as it does those of unreadable frames.
    """

    train: int | None = 500
    val: int | None = 8
    test: int | None = 50
    missing: MissingScenes = "error"

    def __post_init__(self) -> None:
        check_at_least(1, train=self.train, val=self.val, test=self.test)


_SCENES, _TRAINING = SequenceCounts(), TrainingDraws(scale_augmentation=1.0)
_VIEWS = partial(BackFromTarget, contexts=3)


class Co3DDataModule(PosedImagesDataModule):
    """Co3D (version 2) or data in its layout: `Batch`es of camera views, `Request`s of trajectories.

    Images are cropped to their central square and resized. Each scene is scaled so that the median depth over its
    sequence (or, without depths, its cameras' median distance from the point they look at) is `target_scale`.

    Args:
        root: folder that holds the categories' folders.
        category: name of a category, or several.
        subset: which of the category's set lists to use, such as fewview_train or fewview_dev.
        views: which views have which role; by default `BackFromTarget` with three contexts in training.
        target_scale: the scene's scale after scaling; near and far planes are given in these units. The centre of
            a photograph is assumed to be this far away. Null leaves scenes in the data set's own units, as
            SparseFusion's released weights need them.
        scenes: numbers of sequences for each purpose.
        training: random draws of training items.
        evaluation: views of test scenes; by default eight novel ones, evenly around the object.
        prediction: scenes and cameras of a prediction. The trajectory is by default a "circle", and a move once
            around the centre of the scene; the "dataset" trajectory goes all around the sequence.
        cache_dir: where the scales of the scenes are stored; in the root if null.
        object_crop: crops views around the object, by its mask; null takes their central squares. Tests know
            which part of a crop lies in its picture.
        common: the settings that all data sets of posed images share.
    """

    # Replaced draws depend on it.
    attempts = Attempts(own=10, all=30)
    source_path = AroundScene()
    stock_parts: ClassVar[dict[str, Callable[..., ViewChoice]]] = {"views": _VIEWS}
    usual_trajectory = "circle"
    usual_move = CameraMove("orbit", 2 * math.pi)
    usual_novel_views = 8

    def __init__(
        self,
        root: str,
        category: str | list[str],
        subset: str = "fewview_dev",
        views: ViewChoice | None = None,
        target_scale: float | None = 10.0,
        scenes: SequenceCounts = _SCENES,
        training: TrainingDraws = _TRAINING,
        cache_dir: str | None = None,
        object_crop: ObjectCrop | None = None,
        **common: Any,
    ) -> None:
        check_above(0, target_scale=target_scale)
        super().__init__(
            reader=self._open_split,
            views=views or _VIEWS(),
            scenes=SceneCounts(0, None, scenes.missing),
            training=training,
            scene_depth=target_scale or _DEPTH_OF_PHOTOGRAPHS,
            **common,
        )
        self.target_scale = target_scale
        self.object_crop = object_crop
        self.root = Path(root)
        self.source = root
        self.categories = [category] if isinstance(category, str) else list(category)
        self.subset = subset
        self.sequences: dict[Split, int | None] = {"train": scenes.train, "val": scenes.val, "test": scenes.test}
        self.cache_dir = Path(cache_dir) if cache_dir else None
        self._opened: dict[str, Category] = {}
        self._scenes: dict[Split, list[ScaledSequence]] = {}

    def prepare_data(self) -> None:
        """Check the root, and compute the scales of the scenes once, before several processes need them."""
        function = self.trainer.state.fn if self.trainer else None
        if function == "predict" and self.image is not None:
            return
        for split in _SPLITS.get(function, [self.prediction.split]):
            for name in self.categories:
                self._open(name, split)

    def scenes(self, split: Split) -> list[ScaledSequence]:
        """Open the sequences of a split, of all categories. Raises UserError if there are none."""
        if split not in self._scenes:
            found: dict[str, ScaledSequence] = {}
            for name in self.categories:
                scenes, skipped = self._open(name, split)
                require_scenes(scenes, skipped, self._category(name), split)
                if skipped:
                    rank_zero_warn(f"{name}, {split}: {describe_skipped(skipped)} (`dfm data inspect` names them)")
                rank_zero_info(f"{name}, {split}: {counted(len(scenes), 'scene')}")
                found.update({scene.sequence.name: scene for scene in scenes})
            self._scenes[split] = list(found.values())
        return self._scenes[split]

    # --- its own ways -------------------------------------------------------------------------------------

    def training_scenes(self) -> list[str]:
        """List the sequences of the training split; validation has a split of its own."""
        return self.reader("train").keys()

    def validation_scenes(self) -> tuple[Split, list[str]]:
        """List the sequences of the validation split; none if the subset has none."""
        if not any(self._category(name).splits["val"] for name in self.categories):
            rank_zero_warn(f"subset {self.subset} has no validation frames: training goes without validation")
            return "val", []
        return "val", self.reader("val").keys()

    def frames_in_mean(self) -> Iterator[tuple[Scene, list[int]]]:
        """Yield some frames of each training sequence, one at a time; their scales are not needed."""
        unscaled = SceneScale(1.0, "cameras")
        for name in self.categories:
            skip = self.counts.missing == "skip"
            selected, _ = select_sequences(self._category(name), "train", self.sequences["train"], skip)
            for sequence, frames in selected:
                scaled = ScaledSequence(sequence, unscaled, frames, [])
                scene = Co3DScene(scaled, self.scene_depth, self.object_crop)
                for position in frames[:: max(1, len(frames) // _FRAMES_IN_MEAN)]:
                    yield scene, [position]

    def photograph_pose(self) -> Float64[Tensor, "4 4"]:
        """Return the pose of a camera that looks at the origin of a world whose y axis points up."""
        elevation = math.radians(self.camera_move.elevation)
        height, way = math.sin(elevation) * self.scene_depth, math.cos(elevation) * self.scene_depth
        rows = [[0, height, -way], [0, 0, 0], [0, 1, 0]]
        position, origin, up = torch.tensor(rows, dtype=torch.float64)
        return look_at(position, origin, up)

    def hidden_looks(self) -> HiddenLooks | None:
        """See `PosedImagesDataModule`: synthetic scenes have a truth file."""
        return open_looks(self.root)

    def known_truth(self, split: Split) -> KnownTruth:
        """See `PosedImagesDataModule`: of object crops, what lies in the pictures.

        For tests of synthetic scenes without crops, the hidden look and distances.
        """
        if self.object_crop is not None:
            return valid_of_views
        looks = self.hidden_looks() if split == "test" else None
        return nothing_known if looks is None else partial(known_of_views, looks)

    def goes_without(self, split: Split) -> bool:
        """Tell whether unreadable scenes are skipped: always in validation, elsewhere if allowed."""
        return split == "val" or self.counts.missing == "skip"

    # --- inner workings -----------------------------------------------------------------------------------

    def _open_split(self, split: Split) -> Co3DReader:
        return Co3DReader(self.scenes(split), self.target_scale, self.object_crop)

    def _category(self, name: str) -> Category:
        if name not in self._opened:
            self._opened[name] = open_category(self.root, name, self.subset)
        return self._opened[name]

    def _open(self, name: str, split: Split) -> tuple[list[ScaledSequence], list[Skipped]]:
        least = self._least_frames(split)
        skip = self.counts.missing == "skip"
        return open_scenes(self._category(name), split, self.sequences[split], least, self.cache_dir, skip)

    def _least_frames(self, split: Split) -> int:
        """Return the number of frames that a sequence needs; in evaluation, a context and a target."""
        return self.views.contexts + 1 if split == "train" else 2
