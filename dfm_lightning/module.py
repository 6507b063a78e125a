"""`DiffusionWithForwardModel`: training and sampling shared by every stochastic inverse problem."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dfm_lightning.diffusion import (
    DDIM,
    CosineProcess,
    Estimate,
    GuidanceSpace,
    NoiseProcess,
    ObservationDenoiser,
    Sampler,
)
from dfm_lightning.errors import UserError
from dfm_lightning.first_step import check_differentiable, check_first_numbers, check_target_size, check_trainable
from dfm_lightning.interfaces import (
    ForwardModel,
    SignalDenoiser,
    check_batch,
    check_kind,
    check_observed,
    check_request,
)
from dfm_lightning.metrics.samples import energy_score
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.randomness import generator_for, named_noise, seed_generators, seeded_generators
from dfm_lightning.ranges import check_at_least, check_within
from dfm_lightning.record import CLASS, Recorded, flat
from dfm_lightning.scene_scores import SceneScores, ScoresScenes
from dfm_lightning.types import (
    Batch,
    Level,
    LossTerm,
    Observed,
    Prediction,
    Request,
    Sample,
    Views,
    as_request,
    at_least_float32,
    concatenate,
    map_tensors,
    named_tensors,
    repeat_batch,
    select_views,
)
from dfm_lightning.weights import check_finite


def nothing_is_finished(key: str, sample: int) -> bool:
    """What `DiffusionWithForwardModel.is_finished` says unless a callback knows better."""
    return False


def nobody_watches(pieces: int) -> None:
    """What `DiffusionWithForwardModel.on_work` does unless a progress bar listens."""


def score_draws(draws: Float[Tensor, "s v c h w"], truth: Float[Tensor, "v c h w"]) -> dict[str, float]:
    """Scores of one scene's draws by name: see `DiffusionWithForwardModel.test_step`."""
    errors = (draws - truth).square().flatten(1).mean(dim=1).sqrt()
    return {
        "rmse_mean": errors.mean().item(),
        "rmse_best": errors.min().item(),
        "rmse_of_mean": (draws.mean(dim=0) - truth).square().mean().sqrt().item(),
        "energy_score": energy_score(draws, truth),
    }


def draw_groups(pending: list[int], size: int) -> Iterator[range]:
    """The batches of draws that some draws are in: 0 to size − 1, and so on, each whole."""
    for group in sorted({draw // size for draw in pending}):
        yield range(group * size, (group + 1) * size)


def one_by_one(signals: Any, count: int) -> list[Any]:
    """The signals of a batch, each a batch of one.

    Raises:
        UserError: they are several, and no tree of tensors.
    """
    if count == 1:
        return [signals]
    if not any(len(tensor) == count for _, tensor in named_tensors(signals, "")):
        raise UserError(
            f"signals of {type(signals).__name__} are no trees of tensors, so that no batch of them can be "
            "taken apart: set draw_batch to 1"
        )
    return [map_tensors(lambda tensor, i=index: tensor[i : i + 1], signals) for index in range(count)]


class DenoisedBatch(NamedTuple):
    """One evaluation of the denoiser in training, as regularisers see it.

    `compared` are the target views followed by the novel ones (after subsampling), `observed` the signal
    observed under the same parameters, `conditioning` what the denoiser made of the context, which may have
    been dropped.
    """

    batch: Batch
    level: Level
    conditioning: Any
    signal: Any
    compared: Views
    observed: Observed
    context_dropped: bool = False


class DiffusionWithForwardModel(Recorded, ScoresScenes):
    """Diffusion over observations whose denoiser predicts the signal behind them.

    Trained with ‖O − forward(S, φ)‖² at the target's φ and at novel φ (DFM eq. 8, 9). A task subclass adds
    regularisers, metrics and pictures, and no training loop of its own.

    Args:
        denoiser: predicts the signal from context and noisy target.
        forward_model: observes the signal.
        process: the noising of observations.
        sampler: the reverse process used by sampling, test and predict.
        optimizer: Adam with its warm-up.
        target_weight: weight of the loss at the target's parameters (DFM eq. 8).
        novel_weight: weight of the loss at novel parameters (DFM eq. 9).
        context_dropout: probability that a training batch has its context dropped, so that the model can be
            guided; 0 for models sampled without guidance.
        guidance_scale: classifier-free guidance in sampling; 1 is none.
        guidance_space: where guidance extrapolates. "signal": the guided observation is an observation of the
            guided signal. "observation": as in the authors' code; the signal stays unguided.
        samples: number of signals drawn for each context in test and predict.
        draw_batch: how many of them predict draws in one batch: faster, at the price of memory. A sample's last
            digits depend on it, and on nothing else: draws 0 to n − 1 are always drawn together, then the next n,
            whatever is finished or asked for. So `samples` should be a multiple of it.
    """

    without_effect = frozenset({"optimizer", "target_weight", "novel_weight", "context_dropout", "samples"})

    def __init__(
        self,
        denoiser: SignalDenoiser,
        forward_model: ForwardModel,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        optimizer: AdamWithWarmup | None = None,
        target_weight: float = 1.0,
        novel_weight: float = 1.0,
        context_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        samples: int = 4,
        draw_batch: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(0, target_weight=target_weight, novel_weight=novel_weight, guidance_scale=guidance_scale)
        check_within(0, 1, context_dropout=context_dropout)
        check_at_least(1, samples=samples, draw_batch=draw_batch)
        self.denoiser = denoiser
        self.forward_model = forward_model
        self.process = process or CosineProcess()
        self.denoiser.use_process(self.process)
        self.sampler = sampler or DDIM()
        self.sampler.check(self.process)
        self.optimizer = optimizer or AdamWithWarmup()
        self.target_weight = target_weight
        self.novel_weight = novel_weight
        self.context_dropout = context_dropout
        self.guidance_scale = guidance_scale
        self.guidance_space = guidance_space
        self.samples = samples
        self.draw_batch = draw_batch
        # Where scenes are shared out so that each is tested or predicted once, a process may get none. (Lightning
        # sets this to false in the constructors of modules and datamodules, so a class attribute would not do.)
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._stepped = False
        # Set by a writer that finds some of its files already there: those samples are not drawn again.
        self.is_finished: Callable[[str, int], bool] = nothing_is_finished
        # The losses of the last training batch by name, for whoever has to say which of them went wrong.
        self.training_terms: dict[str, Tensor] = {}
        # Set by a progress bar: told how many pieces of work (see `work`) have just been done.
        self.on_work: Callable[[int], None] = nobody_watches
        self.scene_scores = SceneScores()

    # --- training ---------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Refuse a precision in which weights become NaN; say what another one does to them."""
        precision = str(self.trainer.precision)
        if precision == "16-true":
            raise UserError(
                "--trainer.precision 16-true cannot train: gradients, and what keeps Adam from dividing by zero, "
                "are too small for float16. Use 16-mixed or bf16-mixed"
            )
        if precision == "bf16-true":
            rank_zero_warn(
                "--trainer.precision bf16-true loses updates below about 1/500 of a weight: at a small learning "
                "rate nothing is learnt. bf16-mixed keeps them"
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make all that a training step draws a function of the seed, the process and the step's number.

        So a resumed training draws what the uninterrupted one would have drawn.
        """
        check_kind(batch, Batch)
        number = self.trainer.fit_loop.total_batch_idx
        seed_generators(generator_for("training step", self.global_rank, number).initial_seed())

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Refuse what is no batch before anything looks into it."""
        check_kind(batch, Batch)

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `on_validation_batch_start`; and know the scenes that are to be scored."""
        check_kind(batch, Batch)
        super().on_test_batch_start(batch, batch_idx, dataloader_idx)

    def on_predict_batch_start(self, batch: Request, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `on_validation_batch_start`."""
        check_kind(batch, Request)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted sum of all losses of a batch."""
        batch = self.prepare_training_batch(batch)
        context_dropped = self.drops_context()
        if context_dropped:
            batch = batch._replace(context=self.denoiser.drop_context(batch.context))
        total = self._log_total("train", self.losses(batch, context_dropped), len(batch.key))
        self._stepped = True
        return self._with_all_parameters(total)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The training losses on held-out scenes, at the same levels and noise every time.

        Scene by scene, so that they depend neither on the size of batches nor on the number of processes.
        """
        each = []
        for row, key in enumerate(batch.key):
            scene = map_tensors(lambda t, i=row: t[i : i + 1], batch)._replace(key=[key])
            # Levels, noise, patches and importance samples come from the global generators.
            with seeded_generators(generator_for("validation", key).initial_seed()):
                each.append(self.losses(scene))
        terms = {
            name: LossTerm(torch.stack([part[name].value for part in each]).mean(), term.weight)
            for name, term in each[0].items()
        }
        self._log_total("val", terms, len(batch.key))

    def prepare_training_batch(self, batch: Batch) -> Batch:
        """What a task changes at random about a training batch; the context may be dropped afterwards."""
        return batch

    def drops_context(self) -> bool:
        """Whether this training step's context is dropped, at random."""
        return self.context_dropout > 0 and bool(torch.rand((), dtype=torch.float32) < self.context_dropout)

    def losses(self, batch: Batch, context_dropped: bool = False) -> dict[str, LossTerm]:
        """All losses of a batch by name."""
        denoised = self.denoise_noised(batch)._replace(context_dropped=context_dropped)
        own = self.denoiser.auxiliary_losses(batch, denoised.level, denoised.conditioning, denoised.signal)
        return {**self.observation_losses(denoised), **self.regularisers(denoised), **own}

    def denoise_noised(self, batch: Batch) -> DenoisedBatch:
        """Noise the target, predict the signal, and observe it as target and novel views (DFM eq. 4, 5)."""
        check_batch(batch)
        if torch.is_grad_enabled() and not self._stepped:
            check_target_size(self.target_size(batch.context), batch)
        clean = batch.target.observation
        level = self.process.training_levels(len(clean))
        # In float32 at least, as the noise process computes; the denoiser gets it in its own precision.
        noise = torch.randn_like(clean.to(at_least_float32(clean)))
        conditioning = self.denoiser.condition(batch.context, batch.target.params)
        noisy = self.process.add_noise(clean, noise, level).to(clean.dtype)
        signal = self.denoiser(*self.process.denoiser_input(noisy, level), conditioning)
        # One call of the forward model for all views: the same random patch in each, and one batch of rays.
        compared = self.forward_model.subsample(concatenate([batch.target, batch.novel], dim=1))
        observed = self.forward_model.observe(signal, compared.params)
        check_observed(observed.observation, compared.observation)
        if torch.is_grad_enabled():
            check_differentiable(self.denoiser, signal, observed.observation)
            if not self._stepped:
                check_first_numbers(signal, observed.observation)
        return DenoisedBatch(batch, level, conditioning, signal, compared, observed)

    def observation_losses(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """The squared errors at the target's and at novel parameters (DFM eq. 8, 9)."""
        observed, compared = denoised.observed.observation, denoised.compared.observation
        error = (observed.to(at_least_float32(observed)) - compared).square().flatten(2).mean(dim=2)
        targets = denoised.batch.target.observation.shape[1]
        terms = {"target": LossTerm(error[:, :targets].mean(), self.target_weight)}
        if error.shape[1] > targets:
            terms["novel"] = LossTerm(error[:, targets:].mean(), self.novel_weight)
        return terms

    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """Further losses of a task."""
        return {}

    def _log_total(self, stage: str, terms: dict[str, LossTerm], batch_size: int) -> Tensor:
        total = torch.stack([term.value * term.weight for term in terms.values()]).sum()
        if stage == "train":
            self.training_terms = {name: term.value.detach() for name, term in terms.items()}
        values = {f"{stage}/{name}": term.value for name, term in terms.items()}
        self.log_dict({f"{stage}/loss": total, **values}, batch_size=batch_size, sync_dist=stage == "val")
        return total

    def _with_all_parameters(self, total: Tensor) -> Tensor:
        """The same loss, with a gradient, if only of zero, for every parameter where several processes train.

        They wait for each other's gradient of every parameter; one that had no part in the loss (of a frozen
        or not yet trained part) would keep them waiting, or has to be searched for at every step.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return total
        trained = (parameter for parameter in self.parameters() if parameter.requires_grad)
        return total + 0 * torch.stack([parameter.flatten()[0].to(total) for parameter in trained]).sum()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam over what is to be trained, its rate set at every iteration."""
        check_trainable(self)
        parameters = (parameter for parameter in self.parameters() if parameter.requires_grad)
        optimizer = self.optimizer.optimizer(parameters)
        # Asked for later: to know it the trainer may have to make the data loader, which a resumed training must
        # not do before the checkpoint's position in the data is restored.
        scheduler = self.optimizer.scheduler(optimizer, lambda: self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # --- sampling ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        context: Views,
        target_params: Any,
        noise_names: list[tuple[str | int, ...]],
        size: tuple[int, ...],
    ) -> Sample:
        """Draw signals by denoising target observations (DFM eq. 4 to 6).

        Args:
            context: observations of b scenes that the signals are to agree with.
            target_params: parameters of one target view for each scene (leading dimensions b, 1).
            noise_names: one name for each draw; the initial noise depends on it and the seed alone. A multiple
                of b, the draws of a scene side by side.
            size: shape (c, h, w) of the target observation.

        Returns:
            Signals and target observations, one for each name.
        """
        device = context.observation.device
        denoise = ObservationDenoiser(
            self.denoiser,
            self.forward_model,
            context,
            target_params,
            samples=len(noise_names) // len(context.observation),
            guidance_scale=self.guidance_scale,
            guidance_space=self.guidance_space,
        )
        draws = count()

        def draw_noise() -> Float[Tensor, "b 1 c h w"]:
            draw = next(draws)
            return named_noise([(*name, draw) for name in noise_names], (1, *size), device)

        def evaluate(noisy: Float[Tensor, "b 1 c h w"], level: Level) -> Estimate:
            estimate = denoise(noisy, level)
            self.on_work(len(noise_names))
            return estimate

        *_, last = self.sampler.sample(evaluate, draw_noise(), self.process, draw_noise)
        return Sample(last.source, last.noisy)

    def target_size(self, context: Views) -> tuple[int, ...]:
        """Shape (c, h, w) of a target observation."""
        return self.forward_model.target_size(context)

    def work(self, batch: Batch | Request) -> int:
        """Pieces of work that test or predict of a batch takes, were no sample of it finished.

        A piece is an evaluation of the denoiser or an observation of one draw. They need not take equally long;
        this is what a progress bar estimates the time left from.
        """
        return len(batch.key) * self.draws * (self.sampler.evaluations + 1)

    @property
    def draws(self) -> int:
        """How many signals predict draws for each context, were none finished: `samples`, in whole batches."""
        return -(-self.samples // self.draw_batch) * self.draw_batch

    def settings(self) -> dict[str, Any]:
        """What samples depend on besides the weights, the seed and the data, as primitives by name.

        All constructor arguments of the model and its parts, but for those that their classes declare to be
        without effect (see `Recorded`).
        """
        record = self.record()
        return flat({"model": record.pop(CLASS), **record})

    def on_test_start(self) -> None:
        """Refuse weights that nothing can come of."""
        super().on_test_start()
        self._check_weights()

    def on_predict_start(self) -> None:
        """See `on_test_start`."""
        self._check_weights()

    def on_validation_start(self) -> None:
        """See `on_test_start`; while a model trains, others look after it."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._check_weights()

    def _check_weights(self) -> None:
        check_finite(self.named_parameters(), "the model")

    @torch.no_grad()
    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Score how draws for held-out scenes, observed like target and novel views, agree with these.

        rmse_mean: root mean square error of a draw, on average; rmse_best: of the best draw; rmse_of_mean: of
        the draws' mean; energy_score: see `metrics.energy_score`. The second and third fall as the number of draws
        grows, the others do not depend on it. A task with measures of its own overrides.
        """
        draws: dict[str, list[Tensor]] = {key: [] for key in batch.key}
        for prediction in self.predictions(as_request(batch)):
            draws[prediction.key].append(prediction.observation)
        truths = concatenate([batch.target, batch.novel], dim=1).observation
        scores = {
            key: score_draws(torch.stack(draws[key]), truth)
            for key, truth in zip(batch.key, truths, strict=True)
            if draws[key]  # a report has measured the others before
        }
        for key, scene in scores.items():
            self.scene_scores.add(key, scene)
        return {"scores": scores}

    def predict_step(self, batch: Request, batch_idx: int) -> Iterator[Prediction]:
        """Signals for each scene of the batch, drawn one after the other as the iterator is advanced.

        Being lazy, a long prediction is written sample by sample, and what `is_finished` is never drawn.
        """
        return self.predictions(batch)

    def predictions(self, request: Request) -> Iterator[Prediction]:
        """The draws that are not finished yet, scene by scene.

        The target view is the request's first; the signal is observed under all of its parameters.
        """
        check_request(request)
        for index, key in enumerate(request.key):
            context, params = (
                map_tensors(lambda t, i=index: t[i : i + 1], part) for part in (request.context, request.params)
            )
            pending = [sample for sample in range(self.samples) if not self.is_finished(key, sample)]
            if pending:
                yield from self.predict_scene(key, context, params, pending)

    @torch.no_grad()
    def predict_scene(self, key: str, context: Views, params: Any, pending: list[int]) -> Iterator[Prediction]:
        """The pending draws of one scene (batch of one)."""
        for group in draw_groups(pending, self.draw_batch):
            for prediction in self.predict_draws(key, context, params, group):
                if prediction.sample in pending:
                    yield prediction

    def predict_draws(self, key: str, context: Views, params: Any, draws: range) -> Iterator[Prediction]:
        """Draw some samples of one scene (batch of one) at once. A task with another way of sampling overrides."""
        names: list[tuple[str | int, ...]] = [("predict", key, draw) for draw in draws]
        drawn = self.sample(context, select_views(params, slice(0, 1)), names, self.target_size(context))
        observations = self.forward_model(drawn.signal, repeat_batch(params, len(draws)))
        self.on_work(len(draws))
        signals = one_by_one(drawn.signal, len(draws))
        for draw, signal, observation in zip(draws, signals, observations, strict=True):
            yield Prediction(key, draw, signal, observation, params, context)
