"""Validation: the losses, the target's loss by noise level, and whether the noisy target is used at all."""

from abc import abstractmethod

import torch
from torch import Tensor

from dfm_lightning.diffusion import NoiseProcess
from dfm_lightning.observation_losses import DenoisedBatch, squared_errors
from dfm_lightning.randomness import generator_for, seeded_generators
from dfm_lightning.sampling import PredictingModule
from dfm_lightning.types import Batch, Level, LossTerm, map_tensors

# Thirds of the levels, from the cleanest on.
PARTS = ("low", "medium", "high")
# The scenes of each process whose target is exchanged; each takes two evaluations more.
EXCHANGED = 8


class TargetUse:
    """Sums over the scenes of one validation.

    `exchanged` compares the target's error with the one where the noisy target is another scene's. A denoiser that
    ignores its noisy target has a ratio of 1.
    """

    def __init__(self) -> None:
        # Sum and number of the losses of each third; then, of exchanged scenes, the errors with either target.
        self.sums = [[0.0, 0.0] for _ in range(len(PARTS) + 1)]
        self.other: Tensor | None = None
        self._exchanged = 0

    def add(self, share: float, loss: float) -> None:
        """Add a scene's loss at a level, given as a share of the noisiest."""
        self._add(min(int(share * len(PARTS)), len(PARTS) - 1), loss, 1.0)

    def exchange(self, target: Tensor) -> Tensor | None:
        """Return another scene's target to use in place of this one; None for the first, and after enough."""
        other, self.other = self.other, target
        if other is None or other.shape != target.shape or self._exchanged >= EXCHANGED:
            return None
        self._exchanged += 1
        return other

    def add_exchanged(self, right: float, exchanged: float) -> None:
        """Add a scene's errors with its own target, and with another's."""
        self._add(-1, right, exchanged)

    def _add(self, place: int, first: float, second: float) -> None:
        self.sums[place][0] += first
        self.sums[place][1] += second


def scores_of(sums: list[list[float]]) -> dict[str, float]:
    """Return the means and the ratio that sums over scenes give, by name; those without a scene are left out."""
    means = {
        f"val/target_{part}_noise": total / number
        for part, (total, number) in zip(PARTS, sums, strict=False)
        if number > 0
    }
    right, exchanged = sums[-1]
    return {**means, **({"val/exchanged_target_ratio": exchanged / right} if right > 0 else {})}


class ValidatingModule(PredictingModule):
    """A module that is validated by its training losses, scene by scene."""

    process: NoiseProcess
    target_use: TargetUse
    # The levels that targets were last noised to.
    _levels: Level | None

    @abstractmethod
    def losses(self, batch: Batch, context_dropped: bool = False) -> dict[str, LossTerm]:
        """Compute all losses of a batch by name."""

    @abstractmethod
    def denoise_noised(self, batch: Batch, noised: Tensor | None = None) -> DenoisedBatch:
        """Noise the target, predict the signal, and observe it; `noised` is noised in the target's place."""

    @abstractmethod
    def _log_total(self, stage: str, terms: dict[str, LossTerm], batch_size: int) -> Tensor:
        """Log losses and their weighted sum, which is given back."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the training losses on held-out scenes, at the same levels and noise every time.

        They are computed scene by scene, so that they depend neither on the size of batches nor on the number of
        processes.
        """
        each = []
        for row, key in enumerate(batch.key):
            scene = map_tensors(lambda t, i=row: t[i : i + 1], batch)._replace(key=[key])
            self._levels = None
            # Levels, noise, patches and importance samples come from the global generators.
            with seeded_generators(generator_for("validation", key).initial_seed()):
                each.append(self.losses(scene))
            self._follow_target(scene, each[-1])
        terms = {
            name: LossTerm(torch.stack([part[name].value for part in each]).mean(), term.weight)
            for name, term in each[0].items()
        }
        self._log_total("val", terms, len(batch.key))

    def _follow_target(self, scene: Batch, terms: dict[str, LossTerm]) -> None:
        """Keep the target's loss at the level that was drawn, and compare with that of another scene's target."""
        if self._levels is None or "target" not in terms:  # nothing was denoised
            return
        self.target_use.add(
            float(self._levels[0]) / max(float(self.process.last_level), 1.0), float(terms["target"].value)
        )
        other = self.target_use.exchange(scene.target.observation)
        if other is not None:
            errors = []
            for noised in (None, other):
                with seeded_generators(generator_for("validation", scene.key[0]).initial_seed()):
                    denoised = self.denoise_noised(scene, noised)
                views = squared_errors(
                    denoised.observed.observation, denoised.compared.observation, denoised.weight
                )
                errors.append(float(views[:, : scene.target.observation.shape[1]].mean()))
            self.target_use.add_exchanged(*errors)

    def on_validation_epoch_start(self) -> None:
        """Forget the scenes of an earlier validation."""
        self.target_use = TargetUse()

    def on_validation_epoch_end(self) -> None:
        """Log the target's loss by thirds of the levels, and how much worse another scene's target makes it."""
        sums = torch.tensor(self.target_use.sums, device=self.device, dtype=torch.float32)
        scores = scores_of(self.trainer.strategy.reduce(sums, reduce_op="sum").tolist())
        # The same on all processes; Lightning warns of scores that it is not to synchronise.
        self.log_dict(scores, sync_dist=True)
