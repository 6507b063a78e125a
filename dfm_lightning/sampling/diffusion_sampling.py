"""`DiffusionSampling`: draws by denoising observations through a forward model, for every problem."""

from collections.abc import Iterator
from typing import Any, ClassVar, Generic

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from dfm_lightning.diffusion import (
    DDIM,
    ContextGuidance,
    CosineProcess,
    DrawNoise,
    GuidanceSpace,
    MinorityScore,
    NoiseProcess,
    ObservationDenoiser,
    PerturbedAttention,
    Sampler,
    measured_targets,
    sample_with_gradients,
)
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import ForwardModel, Params, Signal, SignalDenoiser, check_targets
from dfm_lightning.ranges import check_at_least
from dfm_lightning.sampling.draws import NoiseNames, draw_signals, one_by_one, scores_of
from dfm_lightning.sampling.evaluation import evaluated
from dfm_lightning.sampling.predicting import PredictingModule
from dfm_lightning.types import Batch, Prediction, Request, Sample, Views, repeat_batch, select_views

# What a forward model may raise at parameters that it was not made for.
_NO_OBSERVATION = (TypeError, AttributeError, LookupError, RuntimeError, ValueError)


class DiffusionSampling(PredictingModule, Generic[Signal, Params]):
    """A denoiser, a forward model and a sampler: tests and predicts; `DiffusionWithForwardModel` trains it too.

    Args:
        denoiser: predicts the signal from context and noisy target.
        forward_model: observes the signal.
        process: the noising of observations.
        sampler: the reverse process.
        guidance_scale: classifier-free guidance; 1 is none.
        guidance_space: where guidance extrapolates. "signal": the guided observation is an observation of the
            guided signal. "observation": as in the original code; the signal stays unguided.
        samples: number of signals drawn for each context in test and predict.
        draw_batch: how many of them predict draws in one batch; see `PredictingModule`.
        context_guidance: gradient steps of each predicted signal towards the context; none if None.
        perturbed_attention: guidance of DiT denoisers, for twice the evaluations; none if None.
        minority: scores how rare each sample is, for some evaluations more; none if None.
    """

    # The arguments that a checkpoint fixes for later runs: which weights there are, and what they mean.
    fixed_by_checkpoint: ClassVar[frozenset[str]] = frozenset({"denoiser", "process"})
    stock_parts: ClassVar[dict[str, type]] = {"process": CosineProcess, "sampler": DDIM}

    denoiser: SignalDenoiser[Signal, Params, Any]
    forward_model: ForwardModel[Signal, Params]

    def __init__(
        self,
        denoiser: SignalDenoiser,
        forward_model: ForwardModel,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        samples: int = 4,
        draw_batch: int = 1,
        context_guidance: ContextGuidance | None = None,
        perturbed_attention: PerturbedAttention | None = None,
        minority: MinorityScore | None = None,
    ) -> None:
        super().__init__(samples, draw_batch)
        check_at_least(0, guidance_scale=guidance_scale)
        self.denoiser = denoiser
        self.forward_model = forward_model
        self.process = process or CosineProcess()
        self.denoiser.use_process(self.process)
        self.denoiser.use_forward_model(forward_model)
        self.sampler = sampler or DDIM()
        self.sampler.check(self.process)
        self.guidance_scale = guidance_scale
        self.guidance_space = guidance_space
        self.context_guidance = context_guidance
        self.perturbed_attention = perturbed_attention
        self._check_perturbed_attention()
        self.minority = minority

    def _check_perturbed_attention(self) -> None:
        if self.perturbed_attention is None:
            return
        with self.perturbed_attention.perturbing(self.denoiser):  # (refuses what it cannot perturb)
            pass
        if self.guidance_scale != 1.0:
            raise UserError(
                "perturbed_attention goes without classifier-free guidance: set guidance_scale to 1, got "
                f"{self.guidance_scale:g}"
            )

    @evaluated
    def sample(
        self, context: Views, target_params: Params, noise_names: NoiseNames, size: tuple[int, ...]
    ) -> Sample:
        """Draw signals by denoising target observations (DFM eq. 4 to 6).

        Args:
            context: observations of b scenes that the signals are to agree with.
            target_params: parameters of the target views that are diffused together (leading dimensions b, v): as
                many as the denoiser's `target_views`.
            noise_names: one name for each draw; the initial noise depends on it and the seed alone. A multiple
                of b, the draws of a scene side by side.
            size: shape (c, h, w) of the target observation.

        Returns:
            Signals and target observations, one for each name.
        """
        denoise = self.observation_denoiser(context, target_params, len(noise_names))
        device = context.observation.device
        worked = self.plan.worked
        return draw_signals(denoise, self.sampler, self.process, noise_names, size, device, worked, self.minority)

    def sample_with_gradients(
        self,
        context: Views,
        target_params: Params,
        noise: Float[Tensor, "b v c h w"],
        draw_noise: DrawNoise | None = None,
    ) -> Sample:
        """Draw signals from given noise, so that they can be differentiated.

        They can be differentiated by the noise, by the inputs that context and parameters were computed from, and
        by weights; see `diffusion.sample_with_gradients`. Memory is that of one evaluation.

        Args:
            context: observations of scenes that the signals are to agree with.
            target_params: parameters of the target view (of as many as are diffused together) of each scene.
            noise: initial noise, standard normal, one for each draw; the draws of a scene side by side.
            draw_noise: gives fresh noise of the same shape to samplers that need it.

        Raises:
            UserError: the model is in training mode, in which an evaluation cannot be repeated; it has context
                guidance; or the sampler needs fresh noise and is given none.
        """
        if self.context_guidance is not None:
            raise UserError("steps of context guidance have no gradient: set context_guidance to null")
        if self.training:
            raise UserError("gradients through sampling need evaluation mode: call eval() of the model first")
        with torch.enable_grad():
            denoise = self.observation_denoiser(context, target_params, len(noise))
            last = sample_with_gradients(self.sampler, denoise, noise, self.process, draw_noise)
        return Sample(last.source, last.noisy)

    def observation_denoiser(self, context: Views, target_params: Params, draws: int) -> ObservationDenoiser:
        """Make the function that the sampler calls, for a number of draws of all scenes together."""
        return ObservationDenoiser(
            self.denoiser,
            self.forward_model,
            context,
            target_params,
            samples=draws // len(context.observation),
            guidance_scale=self.guidance_scale,
            guidance_space=self.guidance_space,
            context_guidance=self.context_guidance,
            perturbed_attention=self.perturbed_attention,
            measured=measured_targets(self.process, self.target_deviation(target_params)),
            process=self.process,
        )

    @evaluated
    def observe(self, signal: Signal, params: Params) -> Tensor:
        """Observe a sampled signal under further parameters.

        Args:
            signal: a `Prediction.signal`.
            params: leading dimensions 1 and v.

        Returns:
            Observations [1 v c h w].
        """
        return self.forward_model(signal, params)

    def observe_context(self, signal: Signal, context: Views) -> Tensor | None:
        """See `PredictingModule`: None, with a warning, where the forward model cannot take the parameters."""
        try:
            observed = self.forward_model(signal, context.params)
        except _NO_OBSERVATION as error:
            rank_zero_warn(
                f"draws are not compared with the context, which the forward model cannot observe: {error}"
            )
            return None
        return observed if observed.shape == context.observation.shape else None

    def context_deviation(self, context: Views) -> Tensor | None:
        """See `PredictingModule`: what the forward model declares."""
        return self.forward_model.noise_deviation(context.params)

    def target_deviation(self, target_params: Params) -> Tensor | None:
        """Return the standard deviation of the noise in targets, as the forward model declares it; or None."""
        return self.forward_model.noise_deviation(target_params)

    def target_size(self, context: Views) -> tuple[int, ...]:
        """Return the shape (c, h, w) of a target observation."""
        return self.forward_model.target_size(context)

    @property
    def evaluations(self) -> int:
        """Return how often a draw asks for an estimate: in sampling, and for scores of the sample."""
        return self.sampler.evaluations + (0 if self.minority is None else self.minority.draws)

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: a piece is an evaluation of the denoiser or an observation of one draw.

        Pieces may take different times.
        """
        return len(batch.key) * self.draws * (self.evaluations + 1)

    def predict_draws(self, key: str, context: Views, params: Params, draws: range) -> Iterator[Prediction]:
        """See `PredictingModule`: the target views are the request's first, the signal is observed under all.

        A task with another way of sampling overrides this.
        """
        names: NoiseNames = [("predict", key, draw) for draw in draws]
        target_params = select_views(params, slice(0, self.denoiser.target_views))
        check_targets(target_params, self.denoiser.target_views)
        drawn = self.sample(context, target_params, names, self.target_size(context))
        observations = self.forward_model(drawn.signal, repeat_batch(params, len(draws)))
        self.plan.worked(len(draws))
        signals = one_by_one(drawn.signal, len(draws))
        for row, (draw, signal, observation) in enumerate(zip(draws, signals, observations, strict=True)):
            yield Prediction(key, draw, signal, observation, params, context, scores=scores_of(drawn, row))
