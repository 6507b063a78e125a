"""`PosedImagesDataModule`: any data set of posed images for Lightning."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.hidden_looks import HiddenLooks
from datamodules.loading import StreamLoader, evaluation_loader, training_loader
from datamodules.posed.camera_moves import CameraMove
from datamodules.posed.evaluation import (
    EvaluationItem,
    EvaluationScenes,
    KnownTruth,
    PathRequests,
    nothing_known,
    readable_items,
    with_most_views,
)
from datamodules.posed.mean_image import frames_of_many_scenes, mean_of_frames
from datamodules.posed.photograph import Photograph
from datamodules.posed.protocol import ChosenViews, IndexedViews, Protocol
from datamodules.posed.scenes import Scene, SceneReader, Split
from datamodules.posed.settings import EvaluationViews, PredictedViews, SceneCounts, TrainingDraws
from datamodules.posed.training import Attempts, TrainingScenes
from datamodules.posed.trajectories import KINDS, SourcePath, ToTarget, Trajectory
from datamodules.posed.two_ends import TwoEnds
from datamodules.posed.view_choice import ViewChoice
from datamodules.posed.views import Roles, read_images
from datamodules.replacements import ReportsReplacements
from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.types import LookLaw
from dfm_lightning.wording import counted

_SCENES, _TRAINING, _EVALUATION, _PREDICTION = SceneCounts(), TrainingDraws(), EvaluationViews(), PredictedViews()


class PosedImagesDataModule(ReportsReplacements, LightningDataModule):
    """Posed images of any data set: `Batch`es of camera views, `Request`s of trajectories.

    Images are cropped to their central square and resized; intrinsics are adjusted. Processes divide the scenes of
    training, test and predict among themselves, independently of Lightning, whose option `use_distributed_sampler`
    applies to validation only.

    Args:
        reader: the data set: opens the reader of a split ("train", "test"), such as a subclass of `SceneReader`
            whose constructor takes the split first.
        views: which frames of a scene are context, target and novel views; by default one context, the target 20
            to 40 frames away, and a novel view between them.
        image_size: height and width of the views in pixels.
        batch_size: training and validation scenes in a batch of each process. Test and predict take one.
        workers: processes that read images, for each process that trains.
        scenes: numbers of scenes for each purpose.
        training: random draws of training items.
        evaluation: views of test scenes.
        prediction: scenes and cameras of a prediction.
        image: a photograph to predict from, instead of the data set's scenes, which then need not exist. Its
            trajectory is the prediction's `move`, or the file that its `trajectory` names.
        field_of_view: the photograph's, in degrees along its longer side; from its EXIF data if null.
        scene_depth: distance, in scene units, of the centre of a photograph, or of the point that a move circles.
    """

    stock_parts: ClassVar[dict[str, Callable[..., ViewChoice]]] = {"views": TwoEnds}
    attempts = Attempts()
    source_path: SourcePath = ToTarget()
    # The values of settings that are null.
    usual_trajectory = "dataset"
    usual_move = CameraMove()
    usual_novel_views = 4
    source = "the data set"
    """Where it lies, for messages."""

    def __init__(
        self,
        reader: Callable[[Split], SceneReader],
        views: ViewChoice | None = None,
        image_size: int = 64,
        batch_size: int = 3,
        workers: int = 4,
        scenes: SceneCounts = _SCENES,
        training: TrainingDraws = _TRAINING,
        evaluation: EvaluationViews = _EVALUATION,
        prediction: PredictedViews = _PREDICTION,
        image: str | None = None,
        field_of_view: float | None = None,
        scene_depth: float = 3.0,
    ) -> None:
        super().__init__()
        check_at_least(1, image_size=image_size, batch_size=batch_size)
        check_at_least(0, workers=workers)
        check_above(0, scene_depth=scene_depth, field_of_view=field_of_view)
        self.views = views or TwoEnds()
        self.image_size = image_size
        self.batch_size = batch_size
        self.workers = workers
        self.counts = scenes
        self.training = training
        self.evaluation = evaluation
        self.prediction = prediction
        self.trajectory_size = prediction.size or image_size
        self.image = None if image is None else Path(image)
        self.field_of_view = field_of_view
        self.camera_move = prediction.move or self.usual_move
        self.scene_depth = scene_depth
        self._open_reader = reader
        self._readers: dict[Split, SceneReader] = {}

    # --- Lightning's hooks --------------------------------------------------------------------------------

    def train_dataloader(self) -> StreamLoader:
        """Load random views of all training scenes, as a function of the seed and the number of batches taken."""
        draws = TrainingScenes(
            self.reader("train"),
            self.training_scenes(),
            self.views.draw,
            self.image_size,
            self.training.scale_augmentation,
            self.training.draws_per_scene,
            self.attempts,
            self.workers,
            self.known_truth("train"),
        )
        self._train_set = draws
        return training_loader(draws, self.batch_size, self.workers, containers=draws.containers())

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Load the same views of the validation scenes every time; none if there are no such scenes."""
        split, keys = self.validation_scenes()
        if not keys:
            return []
        data = self._evaluation(split, ChosenViews(self.views, self.views.novel), keys, None)
        data.items = with_most_views(data.items)
        # Lightning divides these itself, evenly, repeating some: every process needs the same number of batches.
        return DataLoader(data, self.batch_size, num_workers=self.workers)

    def test_dataloader(self) -> DataLoader:
        """Load the same views of the test scenes every time, each scene in one process."""
        protocol = self._protocol("test")
        keys = protocol.keys(self.reader("test").keys())
        return evaluation_loader(self._evaluation("test", protocol, keys, self.counts.test), 1, self.workers)

    def predict_dataloader(self) -> DataLoader:
        """Load the context and trajectory of each scene, in one process each; or those of the photograph."""
        if self.image is not None:
            return evaluation_loader(self._photograph(self.image), 1)
        split, path = self.prediction.split, self._trajectory(self.prediction.trajectory or self.usual_trajectory)
        reader, protocol = self.reader(split), self._protocol(split)
        keys = self._predicted_scenes(protocol.keys(reader.keys()))

        def read(scene: Scene, roles: Roles) -> None:
            read_images(scene, roles.context, self.image_size)
            path(scene, roles)

        count = self.counts.test if self.prediction.scenes is None else None
        items = self._items(split, protocol, keys, count, read)
        requests = PathRequests(reader, items, path, self.image_size, self.trajectory_size)
        return evaluation_loader(requests, 1, self.workers)

    # --- what others ask for ------------------------------------------------------------------------------

    def reader(self, split: Split) -> SceneReader:
        """Open the scenes of a split. Raises UserError if there are none."""
        if split not in self._readers:
            reader = self._open_reader(split)
            if not reader.keys():
                raise UserError(f"{self.source}, {split}: there is no scene")
            if reader.description:
                rank_zero_info(f"{self.source}, {split}: {reader.description}")
            self._readers[split] = reader
        return self._readers[split]

    def training_split(self) -> tuple[list[str], list[str]]:
        """List the scenes to train on and those held out, whatever the seed."""
        keys = sorted(self.reader("train").keys(), key=lambda key: hashlib.sha256(key.encode()).digest())
        if len(keys) <= self.counts.val:
            raise UserError(
                f"scenes.val is {self.counts.val}, but there are only {counted(len(keys), 'training scene')}"
            )
        return sorted(keys[self.counts.val :]), sorted(keys[: self.counts.val])

    def mean_image(self) -> Float[Tensor, "3 h w"] | None:
        """Average some frames of the training scenes, in [-1, 1]: a baseline that any model should beat.

        None if there are no such frames: a capture has no training scenes, and many data sets have a test split
        only.
        """
        try:
            mean = mean_of_frames(self.frames_in_mean(), self.image_size)
        except UserError as error:
            rank_zero_warn(f"no mean training image to compare with: {error}")
            return None
        if mean is None:
            rank_zero_warn(
                f"no mean training image to compare with: no training frame of {self.source} can be read"
            )
        return mean

    def look_law(self) -> LookLaw | None:
        """Return the distribution of what synthetic scenes hide from their context; None for real ones."""
        looks = self.hidden_looks()
        return None if looks is None else looks.law

    # --- what a data set of its own ways replaces -----------------------------------------------------------

    def training_scenes(self) -> list[str]:
        """List the scenes to train on."""
        return self.training_split()[0]

    def validation_scenes(self) -> tuple[Split, list[str]]:
        """List the validation scenes, and name the split they belong to."""
        return "train", self.training_split()[1]

    def frames_in_mean(self) -> Iterator[tuple[Scene, list[int]]]:
        """Choose the frames that the mean image is taken over, by scene."""
        return frames_of_many_scenes(self.reader("train"), self.training_scenes())

    def photograph_pose(self) -> Float64[Tensor, "4 4"]:
        """Return the absolute pose of a photograph's camera."""
        return torch.eye(4, dtype=torch.float64)

    def hidden_looks(self) -> HiddenLooks | None:
        """Read what is known of the looks that synthetic scenes hide; None for real ones."""
        return None

    def known_truth(self, split: Split) -> KnownTruth:
        """Return the function that reads what is known of the scenes of a split besides their views."""
        return nothing_known

    def goes_without(self, split: Split) -> bool:
        """Tell whether evaluation skips scenes that cannot be read, instead of refusing to start."""
        return True

    # --- inner workings -----------------------------------------------------------------------------------

    def _protocol(self, split: Split) -> Protocol:
        index, novel = self.evaluation.index, self.evaluation.novel
        if split == "test" and index is not None:
            return IndexedViews(Path(index), self.views.contexts, self.counts.missing)
        return ChosenViews(self.views, self.usual_novel_views if novel is None else novel)

    def _trajectory(self, kind: str) -> Trajectory:
        move, depth = self.camera_move, self.scene_depth
        return Trajectory(kind, self.prediction.frames, self.source_path, move, depth, self.prediction.scale)

    def _photograph(self, path: Path) -> PathRequests:
        photograph = Photograph(path, self.field_of_view, self.photograph_pose())
        rank_zero_info(f"{path}: {photograph.description}")
        given = self.prediction.trajectory
        trajectory = self._trajectory("move" if given is None or given in KINDS else given)
        items = [EvaluationItem(photograph.key, Roles([0], 0, []))]
        return PathRequests(photograph, items, trajectory, self.image_size, self.trajectory_size)

    def _predicted_scenes(self, keys: list[str]) -> list[str]:
        """Return the requested scenes among those that exist."""
        if self.prediction.scenes is None:
            return keys
        unknown = sorted(set(self.prediction.scenes) - set(keys))
        if unknown:
            raise UserError(f"there is no scene {unknown[0]!r} among the {len(keys)}, such as {keys[0]!r}")
        return self.prediction.scenes

    def _evaluation(
        self, split: Split, protocol: Protocol, keys: list[str], count: int | None
    ) -> EvaluationScenes:
        def read(scene: Scene, roles: Roles) -> None:
            for position in roles.positions():
                scene.view(position, self.image_size)
                if self.evaluation.masks:
                    scene.mask(position, self.image_size)
            known(scene, roles.positions(), self.image_size)

        known = self.known_truth(split)
        items = self._items(split, protocol, keys, count, read)
        return EvaluationScenes(self.reader(split), items, self.image_size, self.evaluation.masks, known)

    def _items(
        self,
        split: Split,
        protocol: Protocol,
        keys: list[str],
        count: int | None,
        read: Callable[[Scene, Roles], None],
    ) -> list[EvaluationItem]:
        """Select the first readable scenes, up to this number; report those that cannot be read."""
        items, skipped = readable_items(self.reader(split), keys, protocol.roles, count, read)
        if not skipped:
            return items
        scenes = len(items) + len(skipped)
        summary = f"{len(skipped)} of {scenes} {split} scenes cannot be read, such as: {skipped[0]}"
        if not self.goes_without(split):
            raise UserError(f"{summary}; set data.scenes.missing to skip to go without such scenes")
        if not items:
            raise UserError(f"{self.source}, {split}: none of {scenes} scenes can be read, such as: {skipped[0]}")
        rank_zero_warn(f"{summary}; they are left out")
        return items
