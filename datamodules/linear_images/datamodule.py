"""`LinearImagesDataModule`: images, and measurements of them by random linear operators."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.image_files import UnreadableError
from datamodules.linear_images.sources import ImageSource, OwnImage
from datamodules.loading import StreamLoader, evaluation_loader, training_loader
from datamodules.replacements import Replacements, ReportsReplacements
from dfm_lightning.errors import UserError
from dfm_lightning.randomness import generator_for
from dfm_lightning.ranges import check_at_least
from dfm_lightning.types import Batch, Request, as_request

# How often a training image is drawn before training gives up.
_ATTEMPTS = 20
_MOST_SEEDS = 2**31


@runtime_checkable
class Measurements(Protocol):
    """A rule that makes problems from images: context and target of each, by operators drawn from a generator."""

    # Not jaxtyping: the command line compares annotations before it accepts a class, and no two of jaxtyping's are
    # equal.
    def problems(self, images: Any, labels: Any, keys: Any, generator: torch.Generator) -> Batch:
        """Measure images [b 3 h w] in [-1, 1] of classes [b] (−1 for none); without truth."""


class ImageItem(NamedTuple):
    """An image, its class and name, and a number that seeds the draw of operators."""

    image: Float[Tensor, "3 h w"]
    label: Int[Tensor, ""]
    name: str
    seed: Int[Tensor, ""]


class Images(Dataset):
    """Some images of a source.

    Seeds of training come from torch's global generator. An unreadable training image is replaced by another, and
    counted in `replacements`.
    """

    def __init__(
        self, source: ImageSource, numbers: range, resolution: int, evaluation: bool, workers: int
    ) -> None:
        self.source = source
        self.numbers = numbers
        self.resolution = resolution
        self.evaluation = evaluation
        self.replacements = Replacements(workers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> ImageItem:
        seed = torch.zeros((), dtype=torch.long) if self.evaluation else torch.randint(_MOST_SEEDS, ())
        number = self.numbers[index]
        for _ in range(_ATTEMPTS):
            try:
                image, label, name = self.source.read(number, self.resolution)
                return ImageItem(image, torch.tensor(label), name, seed)
            except UnreadableError as error:
                if self.evaluation:
                    raise UserError(f"{error} (remove it, or make it readable)") from None
                problem = str(error)
                self.replacements.report(problem, "another image is")
                number = self.numbers[int(torch.randint(len(self.numbers), ()))]
        raise UserError(f"hardly any training image can be read: {problem}")


class LinearImagesDataModule(ReportsReplacements, LightningDataModule):
    """Images of any source, measured by random linear operators: problems of `LinearInverseProblem`.

    In training, operators are drawn for each batch, all of one kind. A problem of evaluation depends on the
    image's name and the user's seed alone. The first `held_out` images of the source are not trained on.

    Args:
        source: the images; not needed for `predict` with `image`.
        measurements: how they are measured, e.g. `dfm_lightning.forward_models.linear.LinearMeasurements`.
        test_measurements: how images of validation, test and predict are measured; as in training if None.
        resolution: height and width of the images.
        held_out: number of images of the source that are held out.
        val_images: number of held-out images for validation, the last ones.
        test_images: number of held-out images for test, the first ones.
        predict_images: number of images that `predict` takes, the first ones.
        image: a picture of your own for `predict`; its central square is measured.
        batch_size: images in a training batch of one process.
        workers: processes that read images.
    """

    def __init__(
        self,
        measurements: Measurements,
        source: ImageSource | None = None,
        test_measurements: Measurements | None = None,
        resolution: int = 64,
        held_out: int = 1000,
        val_images: int = 64,
        test_images: int = 100,
        predict_images: int = 8,
        image: str | None = None,
        batch_size: int = 16,
        workers: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(1, resolution=resolution, held_out=held_out, batch_size=batch_size)
        check_at_least(1, val_images=val_images, test_images=test_images, predict_images=predict_images)
        check_at_least(0, workers=workers)
        if max(val_images, test_images, predict_images) > held_out:
            raise UserError(f"val_images, test_images and predict_images must be at most held_out, {held_out}")
        self.source = source
        self.measurements = measurements
        self.test_measurements = test_measurements or measurements
        self.resolution = resolution
        self.held_out = held_out
        self.val_images = val_images
        self.test_images = test_images
        self.predict_images = predict_images
        self.image = image
        self.batch_size = batch_size
        self.workers = workers

    def train_dataloader(self) -> StreamLoader:
        """Load images that are not held out, with new operators each time."""
        images = self._images(range(self.held_out, len(self._source())), evaluation=False)
        self._train_set = images
        return training_loader(images, self.batch_size, self.workers, _Measuring(self.measurements))

    def val_dataloader(self) -> DataLoader:
        """Load the last held-out images."""
        images = self._images(range(self.held_out - self.val_images, self.held_out))
        return DataLoader(images, 1, num_workers=self.workers, collate_fn=_Measuring(self.test_measurements, True))

    def test_dataloader(self) -> DataLoader:
        """Load the first held-out images, each once."""
        images = self._images(range(self.test_images))
        return evaluation_loader(images, 1, self.workers, _Measuring(self.test_measurements, True))

    def predict_dataloader(self) -> DataLoader:
        """Load the user's picture, or the first held-out images."""
        if self.image is not None:
            own = OwnImage(self.image)
            images = Images(own, range(1), self.resolution, True, 0)
        else:
            images = self._images(range(self.predict_images))
        return evaluation_loader(images, 1, self.workers, _Asking(_Measuring(self.test_measurements, True)))

    def _source(self) -> ImageSource:
        if self.source is None:
            raise UserError("data.source is missing, which gives the images: set it, or data.image for predict")
        if len(self.source) <= self.held_out:
            raise UserError(
                f"of the source's {len(self.source)} images, held_out keeps {self.held_out} from training: "
                "lower data.held_out"
            )
        return self.source

    def _images(self, numbers: range, evaluation: bool = True) -> Images:
        return Images(self._source(), numbers, self.resolution, evaluation, self.workers)


class _Measuring:
    """Make a batch of items; seed operators and noise by the first item's seed, in evaluation by its name."""

    def __init__(self, measurements: Measurements, evaluation: bool = False) -> None:
        self.measurements = measurements
        self.evaluation = evaluation

    def __call__(self, items: list[ImageItem]) -> Batch:
        first = items[0]
        generator = generator_for("operator", first.name if self.evaluation else int(first.seed))
        images = torch.stack([item.image for item in items])
        labels = torch.stack([item.label for item in items])
        batch = self.measurements.problems(images, labels, [item.name for item in items], generator)
        return batch._replace(truth={"image": images}) if self.evaluation else batch


class _Asking:
    """Make a request of the batch that another collation makes."""

    def __init__(self, collate: Callable[[list[ImageItem]], Batch]) -> None:
        self.collate = collate

    def __call__(self, items: list[ImageItem]) -> Request:
        return as_request(self.collate(items))
