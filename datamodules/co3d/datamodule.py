"""`Co3DDataModule`: Co3D (version 2), or anything in its layout, for Lightning."""

import math
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.co3d.datasets import (
    EvaluationScenes,
    TrainingScenes,
    TrajectoryKind,
    TrajectoryRequests,
    ViewSettings,
    readable_scenes,
)
from datamodules.co3d.frames import read_view
from datamodules.co3d.sampling import NovelFrames
from datamodules.co3d.scenes import (
    Category,
    Scene,
    Skipped,
    Split,
    describe_skipped,
    open_category,
    open_scenes,
    require_scenes,
    select_sequences,
)
from datamodules.image_files import UnreadableError
from datamodules.loading import evaluation_loader, training_loader
from datamodules.photograph import CameraMove, PhotographRequest
from datamodules.replacements import ReportsReplacements
from datamodules.scenes import MissingScenes
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import look_at
from dfm_lightning.ranges import check_above, check_ascending, check_at_least

Evaluated = TypeVar("Evaluated", EvaluationScenes, TrajectoryRequests)

# The splits that each of the trainer's functions reads.
_SPLITS: dict[str | None, list[Split]] = {"fit": ["train", "val"], "validate": ["val"], "test": ["test"]}
# Frames of each training scene that the mean image is taken over.
_FRAMES_IN_MEAN = 10


class Co3DDataModule(ReportsReplacements, LightningDataModule):
    """Co3D (version 2) or data in its layout: `Batch`es of camera views, `Request`s of trajectories.

    Images are cropped to their central square and resized. Each scene is scaled so that the median depth over
    its sequence (or, without depths, its cameras' median distance from what they look at) is `target_scale`.

    Processes share the scenes of training, test and predict out among themselves, and Lightning leaves that alone;
    its option `use_distributed_sampler` is for validation.

    Args:
        root: folder that holds the categories' folders.
        category: name of a category, or several.
        subset: which of the category's set lists to use, such as fewview_train or fewview_dev.
        image_size: height and width of the views in pixels.
        batch_size: training and validation scenes in a batch of each process. Test and predict take one.
        workers: processes that read images, for each process that trains.
        context_views: number of context views in a training item.
        novel_views: number of novel views in a training or validation item.
        frame_distance: least and greatest number of frames from one view to the next, between the target and the
            nearest context and between contexts. Sequences too short for it get less.
        novel_frames: where training takes novel views from: between the target and a context, as the paper has
            it, or anywhere in the sequence, so that the loss covers what neither of them sees.
        target_scale: the scene's scale after scaling; near and far planes are meant in these units.
        scale_augmentation: in training each scene is made larger or smaller by a random factor between this and
            its inverse; 1 for none.
        draws_per_scene: training items of each scene in an epoch.
        train_scenes: number of training sequences of each category, those with the best camera quality score; all
            if null.
        val_scenes: number of validation sequences of each category, chosen likewise.
        test_scenes: number of sequences of each category in test and predict, chosen likewise.
        evaluation_views: number of novel views of a test scene, evenly around the object.
        masks: whether the truth of validation and test holds foreground masks.
        trajectory: cameras of a prediction: a circle fitted to the sequence's cameras, the sequence's own cameras,
            or an interpolation of some of them.
        trajectory_frames: number of cameras of a prediction.
        trajectory_size: height and width of predicted views in pixels; `image_size` if null.
        predict_split: which list of the subset predictions are made of.
        cache_dir: where the scales of the scenes are kept; in the root if null.
        missing_scenes: what to do about listed sequences that have not been downloaded, and about test scenes of
            which a needed frame cannot be read: "error", or "skip" them, counted and said. Without "skip",
            training replaces draws of sequences that are not there, as it does those of unreadable frames.
        image: a photograph to predict from, instead of the root's scenes, which then need not be there. What is
            in its middle is taken to be `target_scale` away. Its absolute pose is that of a camera that looks at
            the world's origin from there, held level in a world whose y axis points up.
        field_of_view: the photograph's, in degrees along its longer side; from its EXIF data if null.
        camera_move: how the camera moves away from the photograph; once around what is in its middle if null.
    """

    def __init__(
        self,
        root: str,
        category: str | list[str],
        subset: str = "fewview_dev",
        image_size: int = 64,
        batch_size: int = 3,
        workers: int = 4,
        context_views: int = 3,
        novel_views: int = 1,
        frame_distance: tuple[int, int] = (20, 40),
        novel_frames: NovelFrames = "between",
        target_scale: float = 10.0,
        scale_augmentation: float = 1.0,
        draws_per_scene: int = 1,
        train_scenes: int | None = 500,
        val_scenes: int | None = 8,
        test_scenes: int | None = 50,
        evaluation_views: int = 8,
        masks: bool = False,
        trajectory: TrajectoryKind = "circle",
        trajectory_frames: int = 60,
        trajectory_size: int | None = None,
        predict_split: Split = "test",
        cache_dir: str | None = None,
        missing_scenes: MissingScenes = "error",
        image: str | None = None,
        field_of_view: float | None = None,
        camera_move: CameraMove | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, image_size=image_size, batch_size=batch_size, context_views=context_views)
        check_at_least(0, workers=workers, novel_views=novel_views, evaluation_views=evaluation_views)
        check_at_least(1, draws_per_scene=draws_per_scene, scale_augmentation=scale_augmentation)
        check_at_least(1, train_scenes=train_scenes, val_scenes=val_scenes, test_scenes=test_scenes)
        check_at_least(1, trajectory_frames=trajectory_frames, trajectory_size=trajectory_size)
        check_above(0, target_scale=target_scale, field_of_view=field_of_view)
        check_ascending(1, frame_distance=frame_distance)
        self.root = Path(root)
        self.categories = [category] if isinstance(category, str) else list(category)
        self.subset = subset
        self.batch_size = batch_size
        self.workers = workers
        self.context_views = context_views
        self.scale_augmentation = scale_augmentation
        self.draws_per_scene = draws_per_scene
        self.counts: dict[Split, int | None] = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        self.trajectory = trajectory
        self.trajectory_frames = trajectory_frames
        self.trajectory_size = trajectory_size or image_size
        self.predict_split = predict_split
        self.cache_dir = Path(cache_dir) if cache_dir else None
        self.missing_scenes = missing_scenes
        self.image = None if image is None else Path(image)
        self.field_of_view = field_of_view
        self.camera_move = camera_move or CameraMove("orbit", 2 * math.pi)
        self._training = ViewSettings(
            image_size, target_scale, frame_distance, novel_views, novel_frames, masks=False
        )
        self._validation = self._training._replace(masks=masks)
        self._test = self._validation._replace(novel_views=evaluation_views)
        self._opened: dict[str, Category] = {}
        self._scenes: dict[Split, list[Scene]] = {}

    # --- Lightning's hooks --------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Check the root, and find the scales of the scenes once, before several processes need them."""
        function = self.trainer.state.fn if self.trainer else None
        if function == "predict" and self.image is not None:
            return
        for split in _SPLITS.get(function, [self.predict_split]):
            for name in self.categories:
                self._open(name, split)

    def train_dataloader(self) -> DataLoader:
        """Random views of all training scenes; a function of the seed and the number of batches taken."""
        draws = TrainingScenes(
            self.scenes("train"),
            self._training,
            self.context_views,
            self.scale_augmentation,
            self.draws_per_scene,
            self.workers,
        )
        self._train_set = draws
        return training_loader(draws, self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same views of the validation scenes every time; nothing where the subset has none."""
        if not any(self._category(name).splits["val"] for name in self.categories):
            rank_zero_warn(f"subset {self.subset} has no validation frames: training goes without validation")
            return []
        # Lightning shares these out itself, evenly, repeating some: every process needs as many batches.
        data = self._readable("val", EvaluationScenes(self.scenes("val"), self._validation))
        return DataLoader(data, self.batch_size, num_workers=self.workers)

    def test_dataloader(self) -> DataLoader:
        """The same views of the test scenes every time, each scene in one process."""
        data = self._readable("test", EvaluationScenes(self.scenes("test"), self._test))
        return evaluation_loader(data, 1, self.workers)

    def predict_dataloader(self) -> DataLoader:
        """Context and trajectory of each scene, each scene in one process; or those of the photograph."""
        if self.image is not None:
            return evaluation_loader(self._photograph(self.image), 1)
        scenes = self.scenes(self.predict_split)
        requests = TrajectoryRequests(
            scenes, self._test, self.trajectory, self.trajectory_frames, self.trajectory_size
        )
        return evaluation_loader(self._readable(self.predict_split, requests), 1, self.workers)

    # --- what others ask for ------------------------------------------------------------------------------

    def scenes(self, split: Split) -> list[Scene]:
        """The scenes of a split, of all categories. Raises UserError where there are none."""
        if split not in self._scenes:
            found: dict[str, Scene] = {}
            for name in self.categories:
                scenes, skipped = self._open(name, split)
                require_scenes(scenes, skipped, self._category(name), split)
                if skipped:
                    rank_zero_warn(f"{name}, {split}: {describe_skipped(skipped)} (`dfm data inspect` names them)")
                rank_zero_info(f"{name}, {split}: {len(scenes)} scenes")
                found.update({scene.sequence.name: scene for scene in scenes})
            self._scenes[split] = list(found.values())
        return self._scenes[split]

    def mean_image(self) -> Float[Tensor, "3 h w"]:
        """The mean of some frames of each training scene, in [-1, 1]: a baseline that any model should beat."""
        total, count = torch.zeros(3, self._training.image_size, self._training.image_size), 0
        for name in self.categories:
            skip = self.missing_scenes == "skip"
            selected, _ = select_sequences(self._category(name), "train", self.counts["train"], skip)
            for sequence, frames in selected:
                for position in frames[:: max(1, len(frames) // _FRAMES_IN_MEAN)]:
                    with suppress(UnreadableError):
                        intrinsics = sequence.intrinsics[position]
                        total += read_view(sequence.frames[position], intrinsics, self._training.image_size)[0]
                        count += 1
        if count == 0:
            raise UserError(f"{self.root}: no readable training frame in subset {self.subset} for the mean image")
        return total / count

    # --- inner workings -----------------------------------------------------------------------------------

    def _photograph(self, path: Path) -> PhotographRequest:
        distance = self._test.target_scale
        position, origin, up = torch.tensor([[0, 0, -distance], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
        return PhotographRequest(
            path,
            self.camera_move,
            self._test.image_size,
            self.trajectory_size,
            distance,
            self.field_of_view,
            look_at(position, origin, up),
        )

    def _category(self, name: str) -> Category:
        if name not in self._opened:
            self._opened[name] = open_category(self.root, name, self.subset)
        return self._opened[name]

    def _open(self, name: str, split: Split) -> tuple[list[Scene], list[Skipped]]:
        least = self._least_frames(split)
        skip = self.missing_scenes == "skip"
        return open_scenes(self._category(name), split, self.counts[split], least, self.cache_dir, skip)

    def _readable(self, split: Split, data: Evaluated) -> Evaluated:
        """The data set with only the scenes that can be read, if the others may be left out. Says which are."""
        kept, wrong = readable_scenes(data.scenes, data.read)
        if not wrong:
            return data
        counted = f"{len(wrong)} of {len(data.scenes)} {split} scenes cannot be read, such as: {wrong[0]}"
        # Training goes on with what is left to validate it by.
        if not kept or (self.missing_scenes == "error" and split != "val"):
            raise UserError(f"{counted}; set data.missing_scenes to skip to go without such scenes")
        rank_zero_warn(f"{counted}; they are left out")
        data.scenes = kept
        return data

    def _least_frames(self, split: Split) -> int:
        """How many frames a sequence needs: validation batches have the same number of novel views."""
        return {"train": self.context_views + 1, "val": self._validation.novel_views + 2, "test": 2}[split]
