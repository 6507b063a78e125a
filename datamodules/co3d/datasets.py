"""Data sets of batches and requests: training draws its views, evaluation and prediction always take the same."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.co3d.frames import read_mask, read_view
from datamodules.co3d.sampling import NovelFrames, choose_roles, draw_roles
from datamodules.co3d.scenes import Scene
from datamodules.image_files import UnreadableError
from datamodules.replacements import Replacements
from datamodules.views import PosedImages, Roles, make_batch, make_request
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.trajectories import circle_cameras, interpolate_poses
from dfm_lightning.types import Batch, Request

TrajectoryKind = Literal["circle", "dataset", "interpolation"]

# Draws of a training item from its own scene, and after that from scenes at random.
_OWN_ATTEMPTS = 10
_OTHER_ATTEMPTS = 20
# Cameras of the data set that an interpolated trajectory passes through.
_KEY_POSES = 8


class ViewSettings(NamedTuple):
    """What decides how a scene's frames become views."""

    image_size: int
    target_scale: float
    distance: tuple[int, int]
    novel_views: int
    novel_frames: NovelFrames
    masks: bool


def read_batch(scene: Scene, roles: Roles, settings: ViewSettings, scale_factor: float = 1.0) -> Batch:
    """Read a scene's frames in their roles (no batch dimension). Raises UnreadableError."""
    positions = roles.positions()
    frames = [scene.sequence.frames[position] for position in positions]
    read = [
        read_view(frame, scene.sequence.intrinsics[position], settings.image_size)
        for frame, position in zip(frames, positions, strict=True)
    ]
    poses = scene.poses(settings.target_scale * scale_factor)[positions]
    posed = PosedImages(
        torch.stack([image for image, _ in read]), poses, torch.stack([intrinsics for _, intrinsics in read])
    )
    truth: dict[str, Tensor] = {}
    if settings.masks:
        masks = torch.stack([read_mask(frame, settings.image_size) for frame in frames])
        context, target = len(roles.context), len(roles.context) + 1
        truth = {
            "context_mask": masks[:context],
            "target_mask": masks[context:target],
            "novel_mask": masks[target:],
        }
    return make_batch(scene.sequence.name, posed, len(roles.context), truth)


class TrainingScenes(Dataset):
    """Random views of each scene, drawn from torch's global generator.

    A draw with a frame that cannot be read is made again, from another scene if need be, and counted in
    `replacements`.
    """

    def __init__(
        self,
        scenes: list[Scene],
        settings: ViewSettings,
        contexts: int,
        scale_augmentation: float,
        draws_per_scene: int,
        workers: int,
    ) -> None:
        self.scenes = scenes
        self.settings = settings
        self.contexts = contexts
        self.scale_augmentation = scale_augmentation
        self.draws_per_scene = draws_per_scene
        self.replacements = Replacements(workers)

    def __len__(self) -> int:
        return len(self.scenes) * self.draws_per_scene

    def __getitem__(self, index: int) -> Batch:
        for attempt in range(_OWN_ATTEMPTS + _OTHER_ATTEMPTS):
            if attempt >= _OWN_ATTEMPTS:
                index = int(torch.randint(len(self.scenes), ()))
            try:
                return self._draw(self.scenes[index % len(self.scenes)])
            except UnreadableError as error:
                problem = str(error)
                self.replacements.report(problem)
        raise UserError(f"hardly any training frame can be read (run `dfm data verify`), such as {problem}")

    def _draw(self, scene: Scene) -> Batch:
        settings = self.settings
        roles = draw_roles(
            len(scene.frames), self.contexts, settings.novel_views, settings.distance, settings.novel_frames
        )
        in_sequence = Roles(
            [scene.frames[position] for position in roles.context],
            scene.frames[roles.target],
            [scene.frames[position] for position in roles.novel],
        )
        # Uniform in the logarithm, so that larger and smaller scenes are equally likely.
        exponent = math.log(self.scale_augmentation) * (2 * torch.rand(()).item() - 1)
        return read_batch(scene, in_sequence, self.settings, math.exp(exponent))


def readable_scenes(
    scenes: list[Scene], read: Callable[[Scene], object]
) -> tuple[list[Scene], list[UnreadableError]]:
    """The scenes of which a function can read what it needs, and what is wrong with the others.

    All that evaluation and prediction need is decoded once, before hours of sampling depend on it.
    """
    kept, wrong = [], []
    for scene in track(scenes, "Reading the frames to be used", disable=len(scenes) < 100):
        try:
            read(scene)
            kept.append(scene)
        except UnreadableError as error:
            wrong.append(error)
    return kept, wrong


class EvaluationScenes(Dataset):
    """The same views of each scene every time: one context, one target, novel views around the object."""

    def __init__(self, scenes: list[Scene], settings: ViewSettings) -> None:
        self.scenes = scenes
        self.settings = settings

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Batch:
        scene = self.scenes[index]
        try:
            return self.read(scene)
        except UnreadableError as error:
            raise UserError(f"{error} (evaluation frame of {scene.sequence.name})") from None

    def read(self, scene: Scene) -> Batch:
        """The views of a scene. Raises UnreadableError."""
        return read_batch(scene, evaluation_roles(scene, self.settings), self.settings)


class TrajectoryRequests(Dataset):
    """One context view of each scene, and cameras from which it is to be seen."""

    def __init__(
        self, scenes: list[Scene], settings: ViewSettings, kind: TrajectoryKind, frames: int, size: int
    ) -> None:
        self.scenes = scenes
        self.settings = settings
        self.kind = kind
        self.frames = frames
        self.size = size

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Request:
        scene = self.scenes[index]
        try:
            return self.read(scene)
        except UnreadableError as error:
            raise UserError(f"{error} (context frame of {scene.sequence.name})") from None

    def read(self, scene: Scene) -> Request:
        """The request of a scene. Raises UnreadableError."""
        first = evaluation_roles(scene, self.settings).context[0]
        frame = scene.sequence.frames[first]
        image, intrinsics = read_view(frame, scene.sequence.intrinsics[first], self.settings.image_size)
        poses = scene.poses(self.settings.target_scale)
        context = PosedImages(image[None], poses[first : first + 1], intrinsics[None])
        path = trajectory(poses, scene.sequence.usable(), first, self.kind, self.frames)
        return make_request(scene.sequence.name, context, path, self.size)


def evaluation_roles(scene: Scene, settings: ViewSettings) -> Roles:
    """The roles of a scene's frames in validation, test and (the context) predict."""
    numbers = [frame.number for frame in scene.sequence.frames]
    return choose_roles(numbers, scene.frames, scene.batch, settings.novel_views, settings.distance)


def trajectory(
    poses: Float[Tensor, "v 4 4"], usable: list[int], first: int, kind: TrajectoryKind, frames: int
) -> Float[Tensor, "{frames} 4 4"]:
    """Camera-to-world poses that begin at (on the circle: next to) pose `first`.

    "dataset" takes the data set's cameras evenly from `first` on, going on from the last at the first;
    "interpolation" moves smoothly through eight of them, "circle" around the fitted circle.
    """
    position = usable.index(first)
    onward = poses[usable[position:] + usable[:position]]
    if kind == "circle":
        return circle_cameras(poses[usable], frames, position)
    if kind == "dataset":
        return onward[torch.arange(frames) * len(onward) // frames]
    keys = onward[torch.arange(_KEY_POSES) * len(onward) // _KEY_POSES]
    return interpolate_poses(keys, frames)
