"""`DiffusionWithForwardModel`: training for every stochastic inverse problem."""

from typing import ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer

from dfm_lightning.diffusion import (
    ContextGuidance,
    GuidanceSpace,
    MinorityScore,
    NoiseProcess,
    PerturbedAttention,
    Sampler,
    measured_targets,
)
from dfm_lightning.errors import UserError
from dfm_lightning.first_step import check_differentiable, check_first_numbers, check_target_size, check_trainable
from dfm_lightning.interfaces import (
    ForwardModel,
    Params,
    Signal,
    SignalDenoiser,
    check_batch,
    check_kind,
    check_observed,
)
from dfm_lightning.observation_losses import DenoisedBatch, Teaching, context_error, squared_errors
from dfm_lightning.optimizers import AdamWithWarmup, OptimizerChoice, settings_of
from dfm_lightning.randomness import generator_for, seed_generators
from dfm_lightning.ranges import check_at_least, check_within
from dfm_lightning.sampling import DiffusionSampling
from dfm_lightning.types import (
    Batch,
    Level,
    LossTerm,
    Observed,
    Views,
    at_least_float32,
    concatenate,
    select_views,
)
from dfm_lightning.validation import TargetUse, ValidatingModule


class DiffusionWithForwardModel(DiffusionSampling[Signal, Params], ValidatingModule):
    """Diffusion over observations whose denoiser predicts the signal behind them.

    Trained with ‖O − forward(S, φ)‖² at the target's φ and at novel φ (DFM eq. 8, 9). A task subclass adds
    regularisers, metrics and pictures, and no training loop of its own.

    Args:
        denoiser: predicts the signal from context and noisy target.
        forward_model: observes the signal.
        process: the noising of observations.
        sampler: the reverse process used by sampling, test and predict.
        optimizer: the optimizer and its schedule, such as `AdamWithWarmup` or `TorchOptimizer`; or a class of
            `torch.optim`, for a constant rate.
        target_weight: weight of the loss at the target's parameters (DFM eq. 8).
        novel_weight: weight of the loss at novel parameters (DFM eq. 9).
        context_dropout: probability that a training batch has its context dropped, so that the model can be
            guided; 0 for models sampled without guidance.
        guidance_scale: classifier-free guidance in sampling; 1 is none.
        guidance_space: where guidance extrapolates. "signal": the guided observation is an observation of the
            guided signal. "observation": as in the original code; the signal stays unguided.
        samples: number of signals drawn for each context in test and predict.
        draw_batch: how many of them predict draws in one batch; see `PredictingModule`.
        context_weight: weight of a loss at the context's own parameters, ‖O_context − forward(S, φ_context)‖². Not
            computed at 0, as in DFM.
        context_guidance: gradient steps of each predicted signal towards the context in sampling; none if None.
        perturbed_attention: guidance of DiT denoisers in sampling, for twice the evaluations; none if None.
        minority: scores how rare each sample is, for some evaluations more; none if None.
    """

    without_effect = frozenset({"optimizer", "target_weight", "novel_weight", "context_weight", "context_dropout"})
    stock_parts: ClassVar[dict[str, type]] = {**DiffusionSampling.stock_parts, "optimizer": AdamWithWarmup}

    def __init__(
        self,
        denoiser: SignalDenoiser,
        forward_model: ForwardModel,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        optimizer: OptimizerChoice | None = None,
        target_weight: float = 1.0,
        novel_weight: float = 1.0,
        context_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        samples: int = 4,
        draw_batch: int = 1,
        context_weight: float = 0.0,
        context_guidance: ContextGuidance | None = None,
        perturbed_attention: PerturbedAttention | None = None,
        minority: MinorityScore | None = None,
    ) -> None:
        super().__init__(
            denoiser,
            forward_model,
            process,
            sampler,
            guidance_scale,
            guidance_space,
            samples,
            draw_batch,
            context_guidance,
            perturbed_attention,
            minority,
        )
        check_at_least(0, target_weight=target_weight, novel_weight=novel_weight, context_weight=context_weight)
        check_within(0, 1, context_dropout=context_dropout)
        self.optimizer = settings_of(optimizer)
        self.target_weight = target_weight
        self.novel_weight = novel_weight
        self.context_dropout = context_dropout
        self.context_weight = context_weight
        # A teacher that trains it in place of the data, if any (`callbacks.ProgressiveDistillation`).
        self.teaching: Teaching | None = None
        self._stepped = False
        self._levels: Level | None = None
        self.target_use = TargetUse()
        # The losses of the last training batch by name, for reporting which of them failed.
        self.training_terms: dict[str, Tensor] = {}

    def on_fit_start(self) -> None:
        """Refuse a precision that turns weights into NaN; warn of one that loses updates."""
        precision = str(self.trainer.precision)
        if precision == "16-true":
            raise UserError(
                "--trainer.precision 16-true cannot train: gradients, and the term that keeps Adam from dividing "
                "by zero, are too small for float16. Use 16-mixed or bf16-mixed"
            )
        if precision == "bf16-true":
            rank_zero_warn(
                "--trainer.precision bf16-true loses updates below about 1/500 of a weight: at a small learning "
                "rate nothing is learnt. bf16-mixed keeps them"
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed all draws of a training step by the seed, the process and the step's number.

        A resumed training therefore draws what the uninterrupted one would have drawn.
        """
        check_kind(batch, Batch)
        number = self.trainer.fit_loop.total_batch_idx
        seed_generators(generator_for("training step", self.global_rank, number).initial_seed())

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Refuse anything but a batch before it is used."""
        check_kind(batch, Batch)

    def on_validation_start(self) -> None:
        """Refuse unusable weights, except during training, which has checks of its own."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self.check_weights()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted sum of all losses of a batch."""
        batch = self.prepare_training_batch(batch)
        context_dropped = self.drops_context()
        if context_dropped:
            batch = batch._replace(context=self.denoiser.drop_context(batch.context))
        total = self._log_total("train", self.losses(batch, context_dropped), len(batch.key))
        self._stepped = True
        return self._with_all_parameters(total)

    def prepare_training_batch(self, batch: Batch) -> Batch:
        """Apply a task's random changes to a training batch; the context may be dropped afterwards."""
        return batch

    def drops_context(self) -> bool:
        """Decide at random whether this training step drops its context."""
        return self.context_dropout > 0 and bool(torch.rand((), dtype=torch.float32) < self.context_dropout)

    def losses(self, batch: Batch, context_dropped: bool = False) -> dict[str, LossTerm]:
        """Compute all losses of a batch by name."""
        denoised = self.denoise_noised(batch)._replace(context_dropped=context_dropped)
        # (Of the batch that a teacher may have changed.)
        own = self.denoiser.auxiliary_losses(
            denoised.batch, denoised.level, denoised.conditioning, denoised.signal
        )
        terms = {**self.observation_losses(denoised), **self.regularisers(denoised), **own}
        # (A dropped context leaves nothing to compare with.)
        if self.context_weight > 0 and not context_dropped:
            terms["context"] = LossTerm(context_error(self.forward_model, denoised), self.context_weight)
        return terms

    def denoise_noised(self, batch: Batch, noised: Tensor | None = None) -> DenoisedBatch:
        """Noise the target, predict the signal, and observe it as target and novel views (DFM eq. 4, 5).

        With `noised`, these observations are noised in place of the target's; the target remains what losses
        compare with.
        """
        check_batch(batch, self.denoiser.target_views)
        if torch.is_grad_enabled() and not self._stepped:
            check_target_size(self.target_size(batch.context), batch)
        clean = batch.target.observation if noised is None else noised
        count, teaching = len(clean), self.teaching
        level = self.process.training_levels(count) if teaching is None else teaching.levels(count, clean.device)
        self._levels = level
        # In float32 at least, as the noise process computes; the denoiser gets it in its own precision.
        noise = torch.randn_like(clean.to(at_least_float32(clean)))
        if teaching is not None:
            noise = noise * teaching.temperature
        conditioning = self.denoiser.condition(batch.context, batch.target.params)
        noisy = self.process.add_noise(clean, noise, level).to(clean.dtype)
        measured = measured_targets(self.process, self.target_deviation(batch.target.params))
        if teaching is not None:
            if measured is not None:
                raise UserError("distillation knows no noise in targets, but the forward model declares some")
            batch = teaching.taught(batch, noisy, level)
        elif measured is not None:
            corrected = measured.corrected(batch.target.observation, noise, level).to(clean.dtype)
            batch = batch._replace(target=batch.target._replace(observation=corrected))
        signal = self.denoiser(*self.process.denoiser_input(noisy, level), conditioning)
        compared, observed = self.compare(signal, batch)
        weight = None if measured is None else self._weights(compared, level)
        return DenoisedBatch(batch, level, conditioning, signal, compared, observed, weight=weight)

    def _weights(self, compared: Views, level: Level) -> Tensor:
        """Return weights of the numbers of target and novel views, where targets have noise."""
        weight = torch.ones_like(compared.observation)
        targets = slice(0, self.denoiser.target_views)
        measured = measured_targets(self.process, self.target_deviation(select_views(compared.params, targets)))
        if measured is not None:
            weight[:, targets] = measured.weight(level).to(weight.dtype)
        return weight

    def compare(self, signal: Signal, batch: Batch) -> tuple[Views, Observed]:
        """Observe a signal like target and novel views, or a part of these; return views and observations."""
        # One call of the forward model for all views: the same random patch in each, and one batch of rays.
        compared = self.forward_model.subsample(concatenate([batch.target, batch.novel], dim=1))
        observed = self.forward_model.observe(signal, compared.params)
        check_observed(observed.observation, compared.observation)
        if torch.is_grad_enabled():
            check_differentiable(self.denoiser, signal, observed.observation)
            if not self._stepped:
                check_first_numbers(signal, observed.observation)
        return compared, observed

    def observation_losses(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """Compute the squared errors at the target's and at novel parameters (DFM eq. 8, 9)."""
        error = squared_errors(denoised.observed.observation, denoised.compared.observation, denoised.weight)
        targets = denoised.batch.target.observation.shape[1]
        terms = {"target": LossTerm(error[:, :targets].mean(), self.target_weight)}
        if error.shape[1] > targets:
            terms["novel"] = LossTerm(error[:, targets:].mean(), self.novel_weight)
        return terms

    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """Compute further losses of a task."""
        return {}

    def _log_total(self, stage: str, terms: dict[str, LossTerm], batch_size: int) -> Tensor:
        total = torch.stack([term.value * term.weight for term in terms.values()]).sum()
        if stage == "train":
            self.training_terms = {name: term.value.detach() for name, term in terms.items()}
        values = {f"{stage}/{name}": term.value for name, term in terms.items()}
        self.log_dict({f"{stage}/loss": total, **values}, batch_size=batch_size, sync_dist=stage == "val")
        return total

    def _with_all_parameters(self, total: Tensor) -> Tensor:
        """Give every parameter a gradient, even if it is zero, if several processes train.

        They wait for each other's gradient of every parameter; one without a part in the loss (frozen or not yet
        trained) would block them, or require a search at every step.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return total
        trained = (parameter for parameter in self.parameters() if parameter.requires_grad)
        return total + 0 * torch.stack([parameter.flatten()[0].to(total) for parameter in trained]).sum()

    def configure_optimizers(self) -> Optimizer | OptimizerLRSchedulerConfig:
        """Make the optimizer of the trainable parameters, and its schedule."""
        check_trainable(self)
        parameters = (parameter for parameter in self.parameters() if parameter.requires_grad)
        optimizer = self.optimizer.optimizer(parameters)
        # Called later: to compute it the trainer may have to make the data loader, which a resumed training must
        # not do before the checkpoint's position in the data is restored.
        schedule = self.optimizer.schedule(optimizer, lambda: self.trainer.estimated_stepping_batches)
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}
