"""`FFHQGANDataModule`: patches of a generator's samples."""

from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.ffhq_gan.cache import SampleCache, unit_images
from datamodules.ffhq_gan.samples import (
    ImageGenerator,
    SeedItem,
    StoredItem,
    batch_of,
    box_mask,
    patch_mask,
    request_of,
)
from datamodules.ffhq_gan.shards import Shards, StoredSample
from datamodules.image_files import UnreadableError, read_picture
from datamodules.loading import StreamLoader, evaluation_loader, processes, training_loader
from datamodules.replacements import Replacements, ReportsReplacements
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.images import Box, centre_box, crop_and_resize, downsample, image_to_tensor
from dfm_lightning.randomness import generator_for
from dfm_lightning.ranges import check_ascending, check_at_least
from dfm_lightning.types import Batch, Request

# How often a training sample is drawn before training gives up.
_ATTEMPTS = 20


class PatchedSamples(Dataset):
    """Seeds and the visible patches of their images; with a cache, images and codes as well.

    Patches of training come from torch's global generator, those of evaluation from the seeds. An unreadable
    training sample is replaced by one of another seed, and counted in `replacements`.
    """

    def __init__(
        self,
        seeds: range,
        resolution: int,
        patch_sides: tuple[int, int],
        stored: Shards | None,
        evaluation: bool,
        workers: int,
    ) -> None:
        self.seeds = seeds
        self.resolution = resolution
        self.patch_sides = patch_sides
        self.stored = stored
        self.evaluation = evaluation
        self.replacements = Replacements(workers)

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> SeedItem | StoredItem:
        seed = self.seeds[index]
        generator = generator_for("patch", seed) if self.evaluation else None
        mask = patch_mask(self.resolution, self.patch_sides, generator)
        if self.stored is None:
            return SeedItem(torch.tensor(seed), mask)
        if self.evaluation:
            try:
                return StoredItem(torch.tensor(seed), mask, *self.stored[seed])
            except UnreadableError as error:
                raise UserError(f"{error} (remove it: it will be made again)") from None
        seed, sample = self._readable(self.stored, seed)
        return StoredItem(torch.tensor(seed), mask, *sample)

    def _readable(self, stored: Shards, seed: int) -> tuple[int, StoredSample]:
        """Return the sample of a seed or, if it cannot be read, of another."""
        for _ in range(_ATTEMPTS):
            try:
                return seed, stored[seed]
            except UnreadableError as error:
                problem = str(error)
                self.replacements.report(problem, "another sample is")
                seed = self.seeds[int(torch.randint(len(self.seeds), ()))]
        raise UserError(f"hardly any training sample can be read: {problem} (remove it: it will be made again)")


class OwnPicture(Dataset):
    """One picture of the user's, with its patch given by a box."""

    def __init__(self, path: Path, box: Box, resolution: int) -> None:
        self.path = path
        self.box = box
        self.resolution = resolution

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Request:
        try:
            picture = read_picture(self.path, str(self.path))
        except UnreadableError as error:
            raise UserError(str(error)) from error
        square = centre_box(*picture.size)
        image = image_to_tensor(crop_and_resize(picture, square, self.resolution, self.resolution))
        mask = box_mask(self.resolution, self.box, square)
        return _first(request_of(image[None], mask[None], [self.path.stem]))


def _first(request: Request) -> Request:
    """Return the only element of a batch."""
    context = type(request.context)(request.context.observation[0], request.context.params[0])
    # One element, whose key is a name; collation makes them a list.
    return Request(context, request.params[0], request.key[0])  # type: ignore[arg-type]


class FFHQGANDataModule(ReportsReplacements, LightningDataModule):
    """Images drawn from a pretrained generator: a random square patch is the context, the whole image the target.

    They are drawn on demand, on the model's device; or, with `cache`, in advance, into a folder that later runs
    read. Seeds are those of the official StyleGAN2-ADA tools: the same seed gives the same face. `Batch.truth`
    keeps the codes for evaluation.

    Args:
        generator: draws codes and images, e.g. `dfm_lightning.networks.stylegan2.sampling.GeneratorSamples`.
        cache: folder of samples; missing ones are made at the start, shared between all processes. It may also be
            filled by `dfm data gan-samples`.
        resolution: height and width that images are downsampled to.
        patch_sides: least and greatest side of the visible patch, in pixels of that resolution.
        train_seeds: first seed of the training samples, and the one after the last.
        val_seeds: the same for the validation samples.
        test_seeds: the same for the test samples.
        predict_seeds: the same for the samples that `predict` takes patches from, unless `image` is given.
        image: a picture of your own for `predict`; its central square is used.
        box: its visible patch: left, top, right and bottom, in pixels of the picture as a viewer shows it, upright
            by its EXIF orientation.
        batch_size: samples in a batch of one process.
        workers: processes that prepare batches.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        cache: str | None = None,
        resolution: int = 64,
        patch_sides: tuple[int, int] = (8, 24),
        train_seeds: tuple[int, int] = (1_000_000, 2_000_000),
        val_seeds: tuple[int, int] = (100_000, 100_256),
        test_seeds: tuple[int, int] = (0, 100),
        predict_seeds: tuple[int, int] = (0, 8),
        image: str | None = None,
        box: tuple[int, int, int, int] | None = None,
        batch_size: int = 4,
        workers: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(1, resolution=resolution, batch_size=batch_size)
        check_at_least(0, workers=workers, box=box)
        check_ascending(1, patch_sides=patch_sides)
        check_ascending(0, train_seeds=train_seeds, val_seeds=val_seeds)
        check_ascending(0, test_seeds=test_seeds, predict_seeds=predict_seeds)
        if not 1 <= patch_sides[0] <= patch_sides[1] <= resolution:
            raise UserError(f"patch_sides must lie within 1 and the resolution {resolution}, got {patch_sides}")
        if (image is None) != (box is None):
            raise UserError("image and box belong together: the box says which part of the picture is seen")
        seeds = {"train": train_seeds, "val": val_seeds, "test": test_seeds, "predict": predict_seeds}
        self.seeds = {split: range(*pair) for split, pair in seeds.items()}
        for split, pair in seeds.items():
            if not 0 <= pair[0] < pair[1] <= 2**32:
                raise UserError(f"{split}_seeds must be two numbers, the second above the first, got {pair}")
        self.generator = generator
        self.cache_folder = None if cache is None else Path(cache)
        self.resolution = resolution
        self.patch_sides = patch_sides
        self.image = None if image is None else Path(image)
        self.box = box
        self.batch_size = batch_size
        self.workers = workers
        self.cache: SampleCache | None = None

    def setup(self, stage: str) -> None:
        """Open the cache, and make the samples that this stage lacks."""
        if self.cache_folder is None or (stage == "predict" and self.image is not None):
            return
        self.cache = SampleCache(self.cache_folder, self.generator, self.resolution)
        splits = {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (stage,))
        count, rank = processes()
        missing = self.cache.missing((self.seeds[split] for split in splits), rank, count)
        for shard in track(missing, "drawing samples", disable=rank > 0 or not missing):
            self.cache.make(shard, self._device())
        if self.trainer is not None:
            self.trainer.strategy.barrier("samples drawn")

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def train_dataloader(self) -> StreamLoader:
        """Load training samples with new patches each time."""
        samples = self._samples("train", evaluation=False)
        self._train_set = samples
        return training_loader(samples, self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader:
        """Load validation samples."""
        return DataLoader(self._samples("val"), self.batch_size, num_workers=self.workers)

    def test_dataloader(self) -> DataLoader:
        """Load test samples, each once."""
        return evaluation_loader(self._samples("test"), self.batch_size, self.workers)

    def predict_dataloader(self) -> DataLoader:
        """Load the user's picture, or patches of samples."""
        if self.image is not None and self.box is not None:
            picture = OwnPicture(self.image, Box(*map(float, self.box)), self.resolution)
            return evaluation_loader(picture, self.batch_size)
        return evaluation_loader(self._samples("predict"), self.batch_size, self.workers)

    def _samples(self, split: str, evaluation: bool = True) -> PatchedSamples:
        stored = None if self.cache is None else self.cache.shards
        return PatchedSamples(
            self.seeds[split], self.resolution, self.patch_sides, stored, evaluation, self.workers
        )

    def on_after_batch_transfer(
        self, batch: SeedItem | StoredItem | Request, dataloader_idx: int
    ) -> Batch | Request:
        """Draw the images on the model's device, unless they are from the cache, and make the batch."""
        if isinstance(batch, Request):
            return batch._replace(key=list(batch.key))
        images, codes = self._images_and_codes(batch)
        keys = [f"seed{seed:07}" for seed in batch.seed.tolist()]
        if self.trainer is not None and self.trainer.predicting:
            return request_of(images, batch.mask, keys)
        return batch_of(images, codes, batch.mask, keys)

    def _images_and_codes(
        self, batch: SeedItem | StoredItem
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b w_dim"]]:
        if isinstance(batch, StoredItem):
            return unit_images(batch.image), batch.code
        codes, images = self.generator.draw(batch.seed.tolist(), batch.mask.device)
        return downsample(images, (self.resolution, self.resolution)), codes
