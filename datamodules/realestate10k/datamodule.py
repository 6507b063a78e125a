"""`RealEstate10kDataModule`: RealEstate10k in any of its forms, a capture or a photograph, for Lightning."""

import hashlib
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.evaluation import EvaluationItem, EvaluationScenes, PathRequests, readable_items
from datamodules.image_files import UnreadableError
from datamodules.loading import evaluation_loader, training_loader
from datamodules.photograph import CameraMove, PhotographRequest
from datamodules.realestate10k.datasets import TrainingScenes, TrainingViews
from datamodules.realestate10k.forms import Split, open_reader
from datamodules.realestate10k.paths import PathChoice
from datamodules.realestate10k.protocol import IndexedViews, Protocol, RegularViews
from datamodules.replacements import ReportsReplacements
from datamodules.scenes import MissingScenes, SceneReader
from datamodules.views import read_images
from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_above, check_ascending, check_at_least, check_finite

# Scenes and frames of each that the mean image is taken over.
_SCENES_IN_MEAN, _FRAMES_IN_MEAN = 200, 4


class RealEstate10kDataModule(ReportsReplacements, LightningDataModule):
    """RealEstate10k, or one's own pictures: `Batch`es of camera views, `Request`s of camera paths.

    Images are cropped to their central square and resized, intrinsics follow. Lengths are those of the data set.

    Args:
        root: folder with RealEstate10k in the official form, in chunks (.torch) or with .mat files; or, for test
            and predict, a capture with transforms.json, COLMAP's sparse model or poses_bounds.npy. Which of them
            is found by looking.
        image_size: height and width of the views in pixels.
        batch_size: training and validation scenes in a batch of each process. Test and predict take one.
        workers: processes that read images, for each process that trains.
        context_views: number of context views; of an evaluation index, the first so many contexts are given.
        novel_views: number of novel views in a training or validation item.
        frame_distance: least and greatest number of frames between the first context and the target. Scenes too
            short for it give their ends.
        val_scenes: number of scenes held out of the training split for validation.
        evaluation_index: JSON file that says which frames of which scenes are context and targets in test and
            predict (pixelSplat's evaluation_index_re10k.json). Without it, the first frame and frames behind it.
        missing_scenes: what to do about scenes of the index that the root does not have.
        test_scenes: number of scenes in test and predict, the first that can be read; all if null.
        evaluation_views: number of novel views of a test scene without an index.
        predict_split: which split predictions are made of.
        predict_scenes: names of the scenes predictions are made of, instead of the first `test_scenes`.
        trajectory: cameras of a prediction: "dataset", the scene's own cameras from context to target;
            "interpolation", smoothly through some of them; "extrapolation", further than they go; or a path to
            a RealEstate10k camera file (.txt) or a transforms.json, whose first camera is put in the context's
            place.
        trajectory_frames: number of cameras of a prediction; at most so many of a file.
        trajectory_scale: a file's translations are multiplied by it.
        trajectory_size: height and width of predicted views in pixels; `image_size` if null.
        image: a photograph to predict from, instead of a root's scenes.
        field_of_view: the photograph's, in degrees along its longer side; from its EXIF data if null.
        camera_move: how the camera moves away from the photograph.
        scene_depth: distance, in scene units, of what is in the middle of the photograph or is typically seen
            in a capture.
    """

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 64,
        batch_size: int = 3,
        workers: int = 4,
        context_views: int = 1,
        novel_views: int = 1,
        frame_distance: tuple[int, int] = (100, 180),
        val_scenes: int = 32,
        evaluation_index: str | None = None,
        missing_scenes: MissingScenes = "error",
        test_scenes: int | None = 100,
        evaluation_views: int = 4,
        predict_split: Split = "test",
        predict_scenes: list[str] | None = None,
        trajectory: str = "dataset",
        trajectory_frames: int = 60,
        trajectory_scale: float = 1.0,
        trajectory_size: int | None = None,
        image: str | None = None,
        field_of_view: float | None = None,
        camera_move: CameraMove | None = None,
        scene_depth: float = 3.0,
    ) -> None:
        super().__init__()
        check_at_least(1, image_size=image_size, batch_size=batch_size, context_views=context_views)
        check_at_least(0, workers=workers, novel_views=novel_views, evaluation_views=evaluation_views)
        check_at_least(0, val_scenes=val_scenes)
        check_at_least(1, test_scenes=test_scenes, trajectory_size=trajectory_size)
        check_at_least(3, trajectory_frames=trajectory_frames)
        check_above(0, scene_depth=scene_depth, field_of_view=field_of_view)
        check_finite(trajectory_scale=trajectory_scale)
        check_ascending(1, frame_distance=frame_distance)
        self.root = None if root is None else Path(root)
        self.image_size = image_size
        self.batch_size = batch_size
        self.workers = workers
        self.context_views = context_views
        self.novel_views = novel_views
        self.frame_distance = frame_distance
        self.val_scenes = val_scenes
        self.evaluation_index = None if evaluation_index is None else Path(evaluation_index)
        self.missing_scenes = missing_scenes
        self.test_scenes = test_scenes
        self.evaluation_views = evaluation_views
        self.predict_split: Split = predict_split
        self.predict_scenes = predict_scenes
        self.trajectory = trajectory
        self.trajectory_frames = trajectory_frames
        self.trajectory_scale = trajectory_scale
        self.trajectory_size = trajectory_size or image_size
        self.image = None if image is None else Path(image)
        self.field_of_view = field_of_view
        self.camera_move = camera_move or CameraMove()
        self.scene_depth = scene_depth
        self._readers: dict[Split, SceneReader] = {}

    # --- Lightning's hooks --------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        """Random views of all training scenes; a function of the seed and the number of batches taken."""
        views = TrainingViews(self.image_size, self.context_views, self.novel_views, self.frame_distance)
        reader = self.reader("train")
        keys, _ = self.training_split()
        draws = TrainingScenes(reader, keys, views, self.workers)
        containers = reader.containers()
        if containers is not None:
            number = dict(zip(reader.keys(), containers, strict=True))
            containers = [number[key] for key in keys]
        self._train_set = draws
        return training_loader(draws, self.batch_size, self.workers, containers=containers)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same views of the scenes held out of training every time."""
        _, held_out = self.training_split()
        if not held_out:
            return []
        regular = RegularViews(self.context_views, self.novel_views, self.frame_distance)
        items = self._items("train", regular, held_out, None, images=True)
        # Lightning shares these out itself, evenly, repeating some: every process needs as many batches.
        data = EvaluationScenes(self.reader("train"), items, self.image_size)
        return DataLoader(data, self.batch_size, num_workers=self.workers)

    def test_dataloader(self) -> DataLoader:
        """The same views of the test scenes every time, each scene in one process."""
        protocol = self._protocol("test")
        keys = protocol.keys(self.reader("test").keys())
        items = self._items("test", protocol, keys, self.test_scenes, images=True)
        return evaluation_loader(EvaluationScenes(self.reader("test"), items, self.image_size), 1, self.workers)

    def predict_dataloader(self) -> DataLoader:
        """The context and the path of each scene, each scene in one process; or those of the photograph."""
        if self.image is not None:
            request = PhotographRequest(
                self.image,
                self.camera_move,
                self.image_size,
                self.trajectory_size,
                self.scene_depth,
                self.field_of_view,
            )
            return evaluation_loader(request, 1)
        split = self.predict_split
        path = PathChoice(self.trajectory, self.trajectory_frames, self.trajectory_scale)
        protocol = self._protocol(split)
        keys = self._predicted_scenes(protocol.keys(self.reader(split).keys()))
        count = self.test_scenes if self.predict_scenes is None else None
        items = self._items(split, protocol, keys, count, images=False)
        requests = PathRequests(self.reader(split), items, path, self.image_size, self.trajectory_size)
        return evaluation_loader(requests, 1, self.workers)

    # --- what others ask for ------------------------------------------------------------------------------

    def reader(self, split: Split) -> SceneReader:
        """The scenes of a split. Raises UserError where there are none."""
        if split not in self._readers:
            if self.root is None:
                raise UserError(
                    "data.root must say where RealEstate10k or a capture is (or data.image a photograph)"
                )
            reader = open_reader(self.root, split, self.scene_depth)
            rank_zero_info(f"{self.root}, {split}: {reader.description}")
            self._readers[split] = reader
        return self._readers[split]

    def training_split(self) -> tuple[list[str], list[str]]:
        """The scenes to train on and those held out, whichever the seed."""
        keys = sorted(self.reader("train").keys(), key=lambda key: hashlib.sha256(key.encode()).digest())
        if len(keys) <= self.val_scenes:
            raise UserError(
                f"val_scenes is {self.val_scenes}, but there are {len(keys)} training scenes altogether"
            )
        return sorted(keys[self.val_scenes :]), sorted(keys[: self.val_scenes])

    def mean_image(self) -> Float[Tensor, "3 h w"] | None:
        """The mean of some frames of the training scenes, in [-1, 1]: a baseline that any model should beat.

        None where there are none to read: a capture has no training scenes, and many have the test split alone.
        """
        try:
            keys, _ = self.training_split()
        except UserError as error:
            rank_zero_warn(f"no mean training image to compare with: {error}")
            return None
        total, count = torch.zeros(3, self.image_size, self.image_size), 0
        for key in keys[:: max(1, len(keys) // _SCENES_IN_MEAN)]:
            with suppress(UnreadableError):
                scene = self.reader("train").scene(key)
                positions = scene.usable_positions()
                chosen = positions[:: max(1, len(positions) // _FRAMES_IN_MEAN)]
                total += read_images(scene, chosen, self.image_size).images.sum(dim=0)
                count += len(chosen)
        if count == 0:
            rank_zero_warn(f"no mean training image to compare with: no training frame of {self.root} can be read")
            return None
        return total / count

    # --- inner workings -----------------------------------------------------------------------------------

    def _protocol(self, split: Split) -> Protocol:
        if split == "test" and self.evaluation_index is not None:
            return IndexedViews(self.evaluation_index, self.context_views, self.missing_scenes)
        return RegularViews(self.context_views, self.evaluation_views, self.frame_distance)

    def _predicted_scenes(self, keys: list[str]) -> list[str]:
        """The scenes asked for, of those that there are."""
        if self.predict_scenes is None:
            return keys
        unknown = sorted(set(self.predict_scenes) - set(keys))
        if unknown:
            raise UserError(f"there is no scene {unknown[0]!r} among the {len(keys)}, such as {keys[0]!r}")
        return self.predict_scenes

    def _items(
        self, split: Split, protocol: Protocol, keys: list[str], count: int | None, images: bool
    ) -> list[EvaluationItem]:
        """The first so many scenes that can be read; says which cannot."""
        chosen = readable_items(self.reader(split), keys, protocol.roles, count, images)
        skipped = [reason for _, reason in chosen.skipped]
        if skipped:
            rank_zero_warn(f"{len(skipped)} scenes cannot be read and are left out, such as: {skipped[0]}")
        if not chosen.items:
            raise UserError(f"{self.root}, {split}: none of {len(skipped)} scenes can be read")
        return chosen.items
