"""`Vimeo90KDataModule`: Vimeo-90K, or anything in its layout, for Lightning."""

import hashlib
from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from datamodules.loading import StreamLoader, evaluation_loader, training_loader
from datamodules.replacements import ReportsReplacements
from datamodules.vimeo90k.datasets import (
    ClipRequests,
    EvaluationClips,
    FrameSizes,
    PhotographMotion,
    TrainingClips,
)
from datamodules.vimeo90k.layout import Clip, ClipRoot, FormName, Split, open_root
from datamodules.vimeo90k.sampling import Direction, PairChoice
from datamodules.vimeo90k.truth import open_truths
from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_ascending, check_at_least
from dfm_lightning.wording import counted


class Vimeo90KDataModule(ReportsReplacements, LightningDataModule):
    """Vimeo-90K or clips in its layout: `Batch`es of a context frame and a later (or earlier) target frame.

    All frames of an item are cropped and flipped alike, so that motions between them stay motions in pixels.

    Args:
        root: folder that holds `sequences/` and the lists, or vimeo_septuplet/ or vimeo_triplet/ with these.
        form: septuplets or triplets; whichever exists, septuplets first, if null.
        frame_distance: least and greatest number of frames from context to target in training; validation, test
            and predict take the greatest.
        direction: whether the target is later than the context, earlier, or either at random. Validation, test and
            predict go forward unless the direction is backward.
        novel_frames: number of frames between context and target that are novel views; the motion to each is
            assumed to be proportional to the time passed.
        frame_size: height and width that whole frames are resized to; not resized if null.
        crop_size: height and width of the part that is used: anywhere in training, otherwise the middle; the whole
            frame if null.
        horizontal_flip: whether training mirrors half of the items.
        batch_size: clips in a batch of each process.
        workers: processes that read images, for each process that trains.
        val_clips: number of training clips held out for validation.
        test_clips: number of test clips, evenly from their list; all if null.
        predict_split: list that predictions are made for.
        predict_clips: number of its clips, evenly from the list.
        predict_frames: number of moments of the motion that a prediction shows, besides its end.
        image: a photograph of your own for `predict`, instead of clips; its middle is used.
    """

    # A process may have no clip in test and predict (`datamodules.loading.EachOnce`).
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        root: str | None = None,
        form: FormName | None = None,
        frame_distance: tuple[int, int] = (1, 6),
        direction: Direction = "both",
        novel_frames: int = 0,
        frame_size: tuple[int, int] | None = None,
        crop_size: tuple[int, int] | None = None,
        horizontal_flip: bool = True,
        batch_size: int = 8,
        workers: int = 4,
        val_clips: int = 64,
        test_clips: int | None = None,
        predict_split: Split = "test",
        predict_clips: int = 8,
        predict_frames: int = 16,
        image: str | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, frame_size=frame_size, crop_size=crop_size, batch_size=batch_size)
        check_at_least(0, workers=workers, novel_frames=novel_frames)
        check_at_least(1, val_clips=val_clips, test_clips=test_clips, predict_clips=predict_clips)
        check_at_least(1, predict_frames=predict_frames)
        check_ascending(1, frame_distance=frame_distance)
        if frame_size and crop_size and (frame_size[0] < crop_size[0] or frame_size[1] < crop_size[1]):
            raise UserError(f"the crop {list(crop_size)} does not fit into frames of {list(frame_size)}")
        self.root = None if root is None else Path(root)
        self.form: FormName | None = form
        self.choice = PairChoice(frame_distance, direction, novel_frames)
        self.sizes = FrameSizes(frame_size, crop_size)
        self.horizontal_flip = horizontal_flip
        self.batch_size = batch_size
        self.workers = workers
        self.val_clips = val_clips
        self.test_clips = test_clips
        self.predict_split: Split = predict_split
        self.predict_clips = predict_clips
        self.predict_frames = predict_frames
        self.image = None if image is None else Path(image)
        self._opened: ClipRoot | None = None

    # --- Lightning's hooks --------------------------------------------------------------------------------

    def train_dataloader(self) -> StreamLoader:
        """Load random frames of all training clips, as a function of the seed and the number of batches taken."""
        clips, _ = self.training_split()
        draws = TrainingClips(clips, self.choice, self.sizes, self.horizontal_flip, self.workers)
        self._train_set = draws
        return training_loader(draws, self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader:
        """Load the same frames of the held-out clips every time."""
        _, held_out = self.training_split()
        # Lightning divides these itself, evenly, repeating some: every process needs the same number of batches.
        return DataLoader(self._evaluation(held_out), self.batch_size, num_workers=self.workers)

    def test_dataloader(self) -> DataLoader:
        """Load the same frames of the test clips every time, each clip in one process."""
        clips = _evenly(self.opened().clips("test"), self.test_clips)
        return evaluation_loader(self._evaluation(clips), 1, self.workers)

    def predict_dataloader(self) -> DataLoader:
        """Load the context frame of each clip, in one process each; or the photograph."""
        if self.image is not None:
            size = self.sizes.crop or self.sizes.frame
            if size is None:
                raise UserError("a photograph is resized to data.crop_size or data.frame_size: give one of them")
            return evaluation_loader(PhotographMotion(self.image, size, self.predict_frames), 1)
        clips = _evenly(self.opened().clips(self.predict_split), self.predict_clips)
        requests = ClipRequests(clips, self.choice, self.sizes, self.predict_frames)
        return evaluation_loader(requests, 1, self.workers)

    # --- what others ask for ------------------------------------------------------------------------------

    def opened(self) -> ClipRoot:
        """Open the clips. Raises UserError if there are none, or they are too short for the frame distance."""
        if self._opened is None:
            if self.root is None:
                raise UserError("data.root must name a folder of clips (or data.image a photograph, for predict)")
            opened = open_root(self.root, self.form)
            self.choice.check(opened.form.frames)
            rank_zero_info(f"{opened.folder}: {opened.form.name}s")
            self._opened = opened
        return self._opened

    def training_split(self) -> tuple[list[Clip], list[Clip]]:
        """Return the clips to train on and those held out, whatever the seed."""
        clips = self.opened().clips("train")
        if len(clips) <= self.val_clips:
            raise UserError(
                f"val_clips is {self.val_clips}, but there are only {counted(len(clips), 'training clip')}"
            )
        by_hash = sorted(clips, key=lambda clip: hashlib.sha256(clip.name.encode()).digest())
        held_out = {clip.name for clip in by_hash[: self.val_clips]}
        return [clip for clip in clips if clip.name not in held_out], by_hash[: self.val_clips]

    # --- inner workings -----------------------------------------------------------------------------------

    def _evaluation(self, clips: list[Clip]) -> EvaluationClips:
        return EvaluationClips(clips, self.choice, self.sizes, open_truths(self.opened().folder))


def _evenly(clips: list[Clip], count: int | None) -> list[Clip]:
    """Take this many of the clips, evenly from their list; all if there are no more."""
    if count is None or count >= len(clips):
        return clips
    return [clips[number * len(clips) // count] for number in range(count)]
