"""Data sets of batches and requests: training draws its frames, evaluation and prediction always take the same."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.image_files import UnreadableError, read_picture
from datamodules.replacements import Replacements
from datamodules.vimeo90k.layout import Clip
from datamodules.vimeo90k.sampling import FrameRoles, PairChoice, draw_roles, fixed_roles
from datamodules.vimeo90k.truth import ClipTruths
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.images import Box, centre_box, crop_and_resize, image_to_tensor
from dfm_lightning.types import Batch, Moment, Request, Views

# How often a training item is drawn from its own clip, and then from random clips.
_OWN_ATTEMPTS = 3
_OTHER_ATTEMPTS = 20

Window = tuple[slice, slice]


class FrameSizes(NamedTuple):
    """The size that frames are resized to, and the size of the part used (height, width); None changes nothing."""

    frame: tuple[int, int] | None
    crop: tuple[int, int] | None


def read_frames(paths: list[Path], size: tuple[int, int] | None) -> Float[Tensor, "f 3 h w"]:
    """Read whole frames in [-1, 1], resized if a height and width are given.

    Raises:
        UnreadableError: a file is missing or damaged, or the frames differ in size.
    """
    pictures = [read_picture(path, str(path)) for path in paths]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise UnreadableError(f"{paths[0].parent}: its frames are of different sizes")
    return torch.stack([image_to_tensor(_resized(picture, size)) for picture in pictures])


def _resized(picture: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if size is None or picture.size == (size[1], size[0]):
        return picture
    return crop_and_resize(picture, Box(0, 0, *picture.size), size[1], size[0])


def check_crop(size: tuple[int, int], crop: tuple[int, int]) -> None:
    """Raise UnreadableError if frames are smaller than the crop."""
    if size[0] < crop[0] or size[1] < crop[1]:
        raise UnreadableError(
            f"frames of {size[1]}×{size[0]} pixels (width × height) are smaller than the crop {crop[1]}×{crop[0]}"
        )


def random_window(size: tuple[int, int], crop: tuple[int, int] | None) -> Window:
    """Draw a window from torch's global generator."""
    crop = crop or size
    check_crop(size, crop)
    top, left = (int(torch.randint(whole - part + 1, ())) for whole, part in zip(size, crop, strict=True))
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def centre_window(size: tuple[int, int], crop: tuple[int, int] | None) -> Window:
    """Return the window in the middle."""
    crop = crop or size
    check_crop(size, crop)
    top, left = ((whole - part) // 2 for whole, part in zip(size, crop, strict=True))
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def make_batch(key: str, frames: Float[Tensor, "f 3 h w"], times: list[float], truth: dict[str, Tensor]) -> Batch:
    """Make an item from context, target and novel frames, in this order; `times` are the novel frames'."""
    image = frames[0]
    context, target = _views(frames[:1], image, [0.0]), _views(frames[1:2], image, [1.0])
    return Batch(context, target, _views(frames[2:], image, times), key, truth)


def make_request(key: str, image: Float[Tensor, "3 h w"], moments: int) -> Request:
    """Make an item that asks for the end of an image's motion, after this many moments from its start."""
    context = _views(image[None], image, [0.0])
    times = [1.0, *(number / moments for number in range(moments))]
    return Request(context, _moments(image, times), key)


def _views(frames: Float[Tensor, "v 3 h w"], image: Float[Tensor, "3 h w"], times: list[float]) -> Views:
    return Views(frames, _moments(image, times))


def _moments(image: Float[Tensor, "3 h w"], times: list[float]) -> Moment:
    return Moment(image.expand(len(times), -1, -1, -1), torch.tensor(times, dtype=torch.float32))


class TrainingClips(Dataset):
    """Random frames of each clip, cropped and flipped alike, drawn from torch's global generator.

    A draw with an unreadable frame is repeated, from another clip if need be, and counted in `replacements`.
    """

    def __init__(
        self, clips: list[Clip], choice: PairChoice, sizes: FrameSizes, horizontal_flip: bool, workers: int
    ) -> None:
        self.clips = clips
        self.choice = choice
        self.sizes = sizes
        self.horizontal_flip = horizontal_flip
        self.replacements = Replacements(workers)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Batch:
        for attempt in range(_OWN_ATTEMPTS + _OTHER_ATTEMPTS):
            if attempt >= _OWN_ATTEMPTS:
                index = int(torch.randint(len(self.clips), ()))
            try:
                return self._draw(self.clips[index])
            except UnreadableError as error:
                problem = str(error)
                self.replacements.report(problem)
        raise UserError(f"hardly any training clip can be read (run `dfm data verify`), such as {problem}")

    def _draw(self, clip: Clip) -> Batch:
        roles = draw_roles(len(clip.frames), self.choice)
        frames = read_frames(_paths(clip, roles), self.sizes.frame)
        rows, columns = random_window((frames.shape[2], frames.shape[3]), self.sizes.crop)
        frames = frames[..., rows, columns]
        if self.horizontal_flip and torch.randint(2, ()):
            frames = frames.flip(-1)
        return make_batch(clip.name, frames, roles.times(), {})


class EvaluationClips(Dataset):
    """The same frames of each clip every time, cropped to their middle, with the true motion if it is known."""

    def __init__(
        self, clips: list[Clip], choice: PairChoice, sizes: FrameSizes, truths: ClipTruths | None
    ) -> None:
        self.clips = clips
        self.choice = choice
        self.sizes = sizes
        self.truths = truths

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Batch:
        clip = self.clips[index]
        roles = fixed_roles(len(clip.frames), self.choice)
        try:
            frames = read_frames(_paths(clip, roles), self.sizes.frame)
            size = (frames.shape[2], frames.shape[3])
            window = centre_window(size, self.sizes.crop)
        except UnreadableError as error:
            raise UserError(f"{error} (evaluation clip {clip.name})") from None
        truth = {}
        if self.truths is not None:
            truth = self.truths.tensors(clip.name, roles.context, roles.target, size, window)
        return make_batch(clip.name, frames[..., window[0], window[1]], roles.times(), truth)


class ClipRequests(Dataset):
    """The context frame of each clip, to be moved."""

    def __init__(self, clips: list[Clip], choice: PairChoice, sizes: FrameSizes, moments: int) -> None:
        self.clips = clips
        self.choice = choice
        self.sizes = sizes
        self.moments = moments

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Request:
        clip = self.clips[index]
        context = clip.frames[fixed_roles(len(clip.frames), self.choice).context]
        try:
            frame = read_frames([context], self.sizes.frame)
            rows, columns = centre_window((frame.shape[2], frame.shape[3]), self.sizes.crop)
        except UnreadableError as error:
            raise UserError(f"{error} (context of clip {clip.name})") from None
        return make_request(clip.name, frame[0, :, rows, columns], self.moments)


class PhotographMotion(Dataset):
    """A single request: a photograph, upright, its middle resized to the model's input."""

    def __init__(self, path: Path, size: tuple[int, int], moments: int) -> None:
        try:
            picture = read_picture(path, str(path))
        except UnreadableError as error:
            raise UserError(str(error)) from None
        box = centre_box(*picture.size, size[1] / size[0])
        image = image_to_tensor(crop_and_resize(picture, box, size[1], size[0]))
        self.request = make_request(path.stem, image, moments)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Request:
        return self.request


def _paths(clip: Clip, roles: FrameRoles) -> list[Path]:
    return [clip.frames[position] for position in (roles.context, roles.target, *roles.novel)]
