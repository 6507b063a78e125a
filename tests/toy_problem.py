"""A stochastic inverse problem small enough to train in a test: a scalar signal seen through known slopes.

Tests copy this file to their working directory, as a user would have classes of their own there.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from datamodules.loading import evaluation_loader, training_loader
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Level, Request, Views


class Slope(ForwardModel):
    """Observes a signal s as the constant image φ · s.

    Args:
        gain: factor on every observation.
    """

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, signal: Float[Tensor, "b 1"], params: Float[Tensor, "b v"]) -> Float[Tensor, "b v c h w"]:
        """See `ForwardModel`."""
        return (self.gain * params * signal)[..., None, None, None].expand(-1, -1, 1, 2, 2)


class Digest(NamedTuple):
    """What the denoiser knows before it sees the noisy target."""

    features: Float[Tensor, "b 2"]


class LinearDenoiser(SignalDenoiser):
    """A small network from the mean of the context and of the noisy target to the signal.

    Args:
        width: hidden units. It decides the architecture.
    """

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 1))

    def condition(self, context: Views, target_params: Float[Tensor, "b v"]) -> Digest:
        """See `SignalDenoiser`."""
        mean = context.observation.mean(dim=(1, 2, 3, 4))
        return Digest(torch.stack([mean, target_params[:, 0]], dim=1))

    def forward(self, noisy: Float[Tensor, "b v c h w"], level: Level, conditioning: Digest) -> Tensor:
        """See `SignalDenoiser`."""
        noisy_mean = noisy.mean(dim=(1, 2, 3, 4))[:, None]
        return self.layers(torch.cat([conditioning.features, noisy_mean], dim=1))


class Task(DiffusionWithForwardModel):
    """The base class with a test step."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the error of one sample for each scene."""
        names = [("test", key) for key in batch.key]
        sample = self.sample(batch.context, batch.target.params, names, (1, 2, 2))
        self.log("test/error", (sample.signal - batch.truth["signal"]).square().mean(), batch_size=len(batch.key))


class ScoredTask(Task):
    """The task with a score that was thought of after training."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """See `Task`."""
        super().test_step(batch, batch_idx)
        self.log("test/scored", 1.0, batch_size=len(batch.key))


class ScoredDenoiser(LinearDenoiser):
    """The denoiser with another setting.

    Args:
        width: see `LinearDenoiser`.
        bonus: changes nothing.
    """

    def __init__(self, width: int = 4, bonus: int = 0) -> None:
        super().__init__(width)
        self.bonus = bonus


class SteepSlope(Slope):
    """A forward model of one's own, derived from another."""


class Recorder(Callback):
    """Writes down which scenes a process tested and predicted, one file for each process.

    Args:
        folder: where to write.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *rest: Any) -> None:
        """See `Callback`."""
        self._write(trainer, batch.key)

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *rest: Any) -> None:
        """See `Callback`."""
        self._write(trainer, [f"{prediction.key} {prediction.sample}" for prediction in outputs])

    def _write(self, trainer: Any, lines: list[str]) -> None:
        os.makedirs(self.folder, exist_ok=True)
        with open(Path(self.folder) / f"{trainer.global_rank}.txt", "a") as file:
            file.writelines(line + "\n" for line in lines)


class Failing(Callback):
    """Fails before training, in one of the processes or in all.

    Args:
        rank: the process; -1 for all.
        defect: fail as a defect does, not as wrong input.
    """

    def __init__(self, rank: int, defect: bool = False) -> None:
        self.rank = rank
        self.defect = defect

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """See `Callback`."""
        if self.rank in (-1, trainer.global_rank):
            raise (RuntimeError if self.defect else UserError)("this cannot be used")


class Terminating(Callback):
    """Asks one process to end while it trains, or tests or validates a batch, and writes down where it ended.

    Args:
        step: number of the step or batch.
        seconds: how long that step takes.
        rank: the process.
    """

    def __init__(self, step: int, seconds: float = 0.0, rank: int = 0) -> None:
        self.step = step
        self.seconds = seconds
        self.rank = rank

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """See `Callback`."""
        self._ask(trainer, trainer.global_step + 1)

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *rest: Any) -> None:
        """See `Callback`."""
        self._ask(trainer, batch_idx)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """See `Callback`."""
        if trainer.state.fn != "fit":
            self._ask(trainer, batch_idx)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """See `Callback`."""
        if trainer.is_global_zero:
            Path("ended_at.txt").write_text(f"{trainer.global_step} {type(exception).__name__}")

    def _ask(self, trainer: Any, step: int) -> None:
        if step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(self.seconds)


class Signals(Dataset):
    """Scenes of one signal each; training items add noise to the observations, drawn as augmentations are."""

    def __init__(self, scenes: int, kind: str) -> None:
        self.scenes = scenes
        self.kind = kind

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> Any:
        key = f"{self.kind}{index}"
        drawn = torch.rand(5, generator=generator_for("toy", key))
        slopes = 0.5 + drawn[:4]
        observation = (slopes * drawn[4])[:, None, None, None].expand(-1, 1, 2, 2)
        if self.kind == "train":
            observation = observation + 0.01 * torch.randn_like(observation)
        views = [Views(observation[i:j], slopes[i:j]) for i, j in ((0, 1), (1, 2), (2, 4))]
        if self.kind == "broken":
            raise UserError(f"scene {index} cannot be read")
        if self.kind == "predict":
            return Request(views[0], slopes[1:], key)
        return Batch(*views, key=key, truth={"signal": drawn[4:]})


class ToyData(LightningDataModule):
    """Made-up scenes.

    Args:
        root: folder of the data set; nothing is read from it, but it has to exist.
        category: what to load, "line" or "curve" (whose training scenes cannot be read).
        scenes: number of scenes of each kind.
        batch_size: scenes in a batch.
        workers: processes that load.
    """

    def __init__(
        self, root: str, category: str = "line", scenes: int = 12, batch_size: int = 4, workers: int = 0
    ) -> None:
        super().__init__()
        self.root = root
        self.category = category
        self.scenes = scenes
        self.batch_size = batch_size
        self.workers = workers

    def setup(self, stage: str) -> None:
        """Complain as a real datamodule does."""
        if self.category == "stop":
            raise KeyboardInterrupt
        if self.category not in ("line", "curve"):
            raise UserError(f"{self.root} has no category '{self.category}'; it has: curve, line.")
        with open(f"{self.root}/index.txt"):
            pass

    def train_dataloader(self) -> DataLoader:
        """Training scenes."""
        kind = "broken" if self.category == "curve" else "train"
        return training_loader(Signals(self.scenes, kind), self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader:
        """Validation scenes, the same number in each process."""
        return DataLoader(Signals(self.scenes, "val"), self.batch_size)

    def test_dataloader(self) -> DataLoader:
        """Test scenes."""
        return evaluation_loader(Signals(self.scenes, "test"), self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        """Scenes to predict."""
        return evaluation_loader(Signals(self.scenes, "predict"), self.batch_size)


class NoData(LightningDataModule):
    """Without any loader."""
