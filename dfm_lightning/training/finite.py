"""Stop a training whose numbers are no longer finite, before it replaces its last good checkpoint."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.training.notices import how_to_go_on
from dfm_lightning.weights import is_finite

# Each step with gradients that are not finite is skipped and halves the scale, which begins at 2^16.
_LOWEST_SCALE = 2.0**-20
# Limit of a learning rate. Beyond it, Adam's own numbers leave the range of float32.
_HIGHEST_RATE = 1e30
_ADVICE = "Lower --model.optimizer.learning_rate, or clip the gradients with --trainer.gradient_clip_val 1"


class StopAtNonFinite(Callback):
    """Stop at a loss that is infinite or not a number, and refuse to save such weights.

    On a CPU the loss is checked before it changes anything. On a GPU that would synchronise at each step; there,
    the first step that was not finite is recorded on the device, and checked when losses are logged, before a
    validation and before saving. With a gradient scaler a single loss may overflow: such a step is skipped, and
    only a tiny scale stops the training.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._first: Tensor | None = None

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the loss, and its terms by name if the model stores them."""
        if _scaler(trainer) is not None:
            return
        terms = {"loss": loss.detach(), **getattr(pl_module, "training_terms", {})}
        if loss.device.type == "cpu":
            wrong = {name: float(value) for name, value in terms.items() if not value.isfinite()}
            if wrong:
                raise _stopped(trainer, pl_module, trainer.global_step + 1, wrong)
            return
        if self._names != tuple(terms):
            self.check(trainer, pl_module)
        self.note(terms, trainer.global_step + 1)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Refuse a learning rate that makes torch's optimizers fail."""
        for group in optimizer.param_groups:
            if not abs(float(group["lr"])) < _HIGHEST_RATE:
                raise UserError(
                    f"The learning rate of step {trainer.global_step + 1} is {group['lr']}. {_ADVICE}."
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See `Callback`."""
        if (trainer.fit_loop.total_batch_idx + 1) % max(1, cast(Any, trainer).log_every_n_steps) == 0:
            self.check(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self.check(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Callback`."""
        self.check(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that cannot be trained further."""
        self.check(trainer, pl_module)
        name = next(non_finite_state(trainer, pl_module), None)
        if name is not None:
            raise UserError(
                f"Training step {trainer.global_step} made {name} infinite or not a number; it is not saved. "
                f"{_ADVICE}. {how_to_go_on(trainer)}"
            )

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if a step was not finite.

        Raises:
            UserError: one was; the message names the first, and the terms of its loss.
        """
        scaler = _scaler(trainer)
        if scaler is not None and scaler.get_scale() < _LOWEST_SCALE:
            raise UserError(
                f"The loss or its gradients were not finite for many steps before step {trainer.global_step}: the "
                f"gradient scaler has come down to {scaler.get_scale():.1e}. Train with --trainer.precision "
                f"bf16-mixed or 32-true. {how_to_go_on(trainer)}"
            )
        if self._first is None:
            return
        steps = dict(zip(self._names, self._first.tolist(), strict=True))
        first = min((step for step in steps.values() if step >= 0), default=None)
        if first is not None:
            wrong = {name: float("nan") for name, step in steps.items() if step == first}
            raise _stopped(trainer, pl_module, first, wrong)

    @torch.no_grad()
    def note(self, terms: dict[str, Tensor], step: int) -> None:
        """Record on the device, for each term, the first step at which it was not finite, or -1."""
        if self._names != tuple(terms):
            self._names, self._first = tuple(terms), None
        finite = torch.stack([value.float().reshape(()) for value in terms.values()]).isfinite()
        if self._first is None:
            self._first = torch.full_like(finite, -1, dtype=torch.long)
        self._first = torch.where(finite | (self._first >= 0), self._first, step)


def non_finite_state(trainer: Trainer, pl_module: LightningModule) -> Iterator[str]:
    """Name what is infinite or not a number among the parameters and the optimizers' state, or no number among the
    buffers.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in pl_module.named_parameters()}
    for parameter, name in names.items():
        if not is_finite(parameter):
            yield f"the weights '{name}'"
    for name, buffer in pl_module.named_buffers():
        if bool(buffer.isnan().any()):
            yield f"the buffer '{name}'"
    for optimizer in trainer.optimizers:
        for parameter, state in optimizer.state.items():
            for kind, value in state.items():
                if isinstance(value, Tensor) and not is_finite(value):
                    yield f"the optimizer's {kind} of '{names.get(parameter, '?')}'"


def _stopped(trainer: Trainer, pl_module: LightningModule, step: int, wrong: dict[str, float]) -> UserError:
    terms = ", ".join(name for name in wrong if name != "loss")
    of = f" (its terms: {terms})" if terms else ""
    since = next(non_finite_state(trainer, pl_module), None)
    cause = f", since an earlier step has made {since} infinite or not a number" if since else ""
    return UserError(
        f"The loss{of} of training step {step} is infinite or not a number{cause}. Training stops. {_ADVICE}. "
        f"{how_to_go_on(trainer)}"
    )


def _scaler(trainer: Trainer) -> Any:
    """Return the gradient scaler of 16-bit training, if there is one."""
    plugin = trainer.precision_plugin
    scaler = plugin.scaler if isinstance(plugin, MixedPrecision) else None
    return scaler if scaler is not None and scaler.is_enabled() else None
