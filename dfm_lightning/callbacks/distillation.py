"""Progressive distillation: a student learns to do in one step what its teacher does in several."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from dfm_lightning.diffusion import DDIM, NoiseProcess
from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling import evaluating
from dfm_lightning.types import Batch, Level, at_least_float32


class ProgressiveDistillation(Callback):
    """Train a model of few evaluations (Salimans and Ho 2022): 8, 4, 2, 1, each taught by the one before.

    The teacher is the model that training begins with (`--initial_weights`), which does not change. The student is
    trained only at the levels that its own sampler, a `DDIM`, visits. It is compared with the teacher instead of
    the data. At the target, its estimate should take `DDIM` in one step to the point that the teacher reaches in
    `teacher_steps`. At novel parameters, it is compared with observations of the teacher's last signal, since a
    loss at the target alone would leave the signal free. The task's losses stay as they are.

    Noise is as weak as the sampler's temperature makes it: a student that has seen only stronger noise is worse at
    it than its teacher. There is no warm start (see `InverseGraphics`).

    The teacher is evaluated without classifier-free guidance. Checkpoints store it, so that a resumed training has
    the same teacher.

    Args:
        teacher_steps: steps of the teacher for one of the student, 1 or more; 2 halves the number of evaluations.
    """

    def __init__(self, teacher_steps: int = 2) -> None:
        check_at_least(1, teacher_steps=teacher_steps)
        self.teacher_steps = teacher_steps
        self._weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher's weights."""
        return {"teacher": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._weights = state_dict["teacher"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the model learn from the teacher.

        Raises:
            UserError: it has no levels, its sampler is not `DDIM` without fresh noise, or its denoiser cannot be
                taught (see `SignalDenoiser.check_taught`).
        """
        if not isinstance(pl_module, DiffusionWithForwardModel):
            raise UserError(f"ProgressiveDistillation needs a diffusion model, got {type(pl_module).__name__}")
        sampler = pl_module.sampler
        if type(sampler) is not DDIM or sampler.eta > 0:
            raise UserError(
                f"a distilled model samples by DDIM with eta 0, but its sampler is {type(sampler).__name__}: set "
                "model.sampler to DDIM with the number of steps that the student is to take"
            )
        pl_module.denoiser.check_taught()
        denoiser = copy.deepcopy(pl_module.denoiser)
        if self._weights:
            denoiser.load_state_dict(self._weights)
        else:
            self._weights = {name: tensor.detach().cpu() for name, tensor in denoiser.state_dict().items()}
        levels = sampler.levels(pl_module.process)[:-1]
        pl_module.teaching = Teacher(
            denoiser, pl_module.forward_model, pl_module.process, levels, self.teacher_steps, sampler.temperature
        )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the model."""
        if isinstance(pl_module, DiffusionWithForwardModel):
            pl_module.teaching = None


class Teacher:
    """A frozen model whose steps are taught.

    Args:
        denoiser: of the teacher.
        forward_model: of both.
        process: of both.
        levels: at which the student is evaluated, falling.
        steps: of the teacher between two of them, evenly in ln(α/σ); from the last one to clean, evenly in the
            level.
        temperature: factor on the noise that the student is trained with.
    """

    def __init__(
        self,
        denoiser: SignalDenoiser,
        forward_model: ForwardModel,
        process: NoiseProcess,
        levels: list[Number],
        steps: int,
        temperature: Number = 1.0,
    ) -> None:
        self.denoiser = Frozen(denoiser)
        self.temperature = float(temperature)
        self.forward_model = forward_model
        self.process = process
        dtype = torch.long if process.integer_levels else torch.float32
        ends = [*levels[1:], -1]
        ways = [way(start, end, steps, process) for start, end in zip(levels, ends, strict=True)]
        # The levels on the way from each of the student's to the next, both included.
        self.ways = torch.tensor(ways, dtype=dtype)

    def levels(self, batch: int, device: torch.device) -> Level:
        """Draw the levels of a training batch."""
        return self.ways.to(device)[torch.randint(len(self.ways), (batch,), device=device), 0]

    @torch.no_grad()
    def taught(self, batch: Batch, noisy: Float[Tensor, "b v c h w"], level: Level) -> Batch:
        """Replace the observations of target and novel views by those that the student is to predict.

        Args:
            batch: the data.
            noisy: its target, noised.
            level: at levels that `levels` gave.
        """
        ways = self.ways.to(level)
        way_of = ways[(ways[:, 0] == level[:, None]).int().argmax(dim=1)]
        denoiser, parts = self.denoiser.network, nn.ModuleList([self.forward_model])
        with evaluating(parts):
            conditioning = denoiser.condition(batch.context, batch.target.params)
            state = start = noisy.to(at_least_float32(noisy))
            for current, following in zip(way_of.T[:-1], way_of.T[1:], strict=True):
                given, told = self.process.denoiser_input(state.to(noisy.dtype), current)
                signal = denoiser(given, told, conditioning)
                clean = self.forward_model(signal, batch.target.params).to(state.dtype)
                kept, changed = self._step(current, following, state)
                state = kept * state + changed * clean
            kept, changed = self._step(level, way_of[:, -1], state)
            target = (state - kept * start) / changed
            novel = batch.novel
            if novel.observation.shape[1] > 0:
                seen = self.forward_model(signal, novel.params)
                novel = novel._replace(observation=seen.to(novel.observation.dtype))
        target = target.to(batch.target.observation.dtype)
        return batch._replace(target=batch.target._replace(observation=target), novel=novel)

    def _step(self, current: Level, following: Level, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of the noisy and of the clean observation in a step of DDIM."""
        (signal_rate, noise_rate), (next_signal, next_noise) = (
            self.process.rates(level, like) for level in (current, following)
        )
        kept = next_noise / noise_rate
        return kept, next_signal - kept * signal_rate


def way(start: Number, end: Number, steps: int, process: NoiseProcess) -> list[Number]:
    """List levels from a start to an end, both included: `steps` steps, or fewer if there are too few levels."""
    if end < 0:
        found = [start * (steps - part) / steps for part in range(steps)]
    else:
        first, last = process.log_ratio(start), process.log_ratio(end)
        found = [start, *(process.level_at(first + (last - first) * part / steps) for part in range(1, steps))]
    if process.integer_levels:
        found = [max(round(level), end, 0) for level in found]
    return [*found, end]
