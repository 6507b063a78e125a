"""From a denoiser of signals to a denoiser of observations: through the forward model (DFM eq. 4 and 5)."""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.context_guidance import ContextGuidance
from dfm_lightning.diffusion.measured_targets import MeasuredTargets
from dfm_lightning.diffusion.perturbed_attention import PerturbedAttention
from dfm_lightning.diffusion.samplers import Estimate
from dfm_lightning.interfaces import ForwardModel, Noising, SignalDenoiser
from dfm_lightning.types import Level, Views, concatenate, map_tensors, repeat_batch

GuidanceSpace = Literal["signal", "observation"]


class ObservationDenoiser:
    """The function a sampler calls: (noisy observation, level) → clean observation, and the signal behind it.

    Conditioning is computed here, once. With guidance, the unconditional branch is appended to the batch, so
    both are evaluated together; at scale 1 it does not exist.

    Args:
        context: observations the samples are to agree with, a batch of b scenes.
        target_params: parameters of the v target views that are diffused together, leading dimensions b and v.
        samples: draws for each scene; the noisy batch then holds b · samples, those of a scene side by side.
        guidance_scale: 1 is no guidance, 0 ignores the context, above 1 follows it more strongly.
        guidance_space: "signal" extrapolates the signal, so that the guided observation is an observation of it;
            "observation" extrapolates the observation, as the original code does, and leaves the signal unguided.
        context_guidance: moves each signal towards its context before it is observed; after guidance of signals.
        perturbed_attention: guides each signal away from one that is estimated without attention; with a guidance
            scale of 1.
        measured: the noise with which targets were measured, if any, for each scene. Samples are then targets
            with that noise: an estimate differs from the observation of its signal, which has no noise.
        process: tells which levels have more noise than signal, for forward models that can be quicker there
            (`ForwardModel.while_noisy`); without it they are not.
    """

    def __init__(
        self,
        denoiser: SignalDenoiser,
        forward_model: ForwardModel,
        context: Views,
        target_params: Any,
        samples: int = 1,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        context_guidance: ContextGuidance | None = None,
        perturbed_attention: PerturbedAttention | None = None,
        measured: MeasuredTargets | None = None,
        process: Noising | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.forward_model = forward_model
        self._process = process
        # (Context guidance observes signals more than once in an evaluation.)
        self._quicker = forward_model.in_run() is not forward_model and context_guidance is None
        self._in_run = forward_model
        self._last: Level | None = None
        self.guidance_scale = guidance_scale
        self.guidance_space = guidance_space
        self.perturbed_attention = perturbed_attention
        self.guided = guidance_scale != 1.0
        self._towards_context = (
            None if context_guidance is None else context_guidance.towards(forward_model, context, samples)
        )
        if self.guided:
            context = concatenate([context, denoiser.drop_context(context)], dim=0)
            target_params = concatenate([target_params, target_params], dim=0)
        self.conditioning = repeat_batch(denoiser.condition(context, target_params), samples)
        self.target_params = repeat_batch(target_params, samples)
        self.target_views = denoiser.target_views
        self.precision = context.observation.dtype
        self._measured = None if measured is None else measured.repeated(samples)
        # One for each branch: their contexts differ. Gradient steps towards the context move all of a signal.
        remembers = context_guidance is None
        self._remembering, self._other = (denoiser.remembering() if remembers else _unchanged for _ in range(2))

    def __call__(self, noisy: Float[Tensor, "b v c h w"], level: Level) -> Estimate:
        """Estimate the clean target observation; the estimate's source is the signal."""
        estimate = self._observed(noisy, level)
        if self._measured is None:
            return estimate
        return estimate._replace(clean=self._measured.estimate(estimate.clean, noisy, level))

    def _observed(self, noisy: Float[Tensor, "b v c h w"], level: Level) -> Estimate:
        # Samplers compute in float32 at least, whatever the networks do.
        noisy = noisy.to(self.precision)
        forward_model = self._forward_model(noisy, level)
        if not self.guided:
            signal, observed = self._estimated(noisy, level)
            return Estimate(forward_model(observed, self.target_params), signal)

        noisy, level = (concatenate([part, part], dim=0) for part in (noisy, level))
        signals = self.denoiser(noisy, level, self.conditioning)
        conditional, unconditional = self.denoiser.split_batch(signals)
        params = map_tensors(lambda tensor: tensor.chunk(2)[0], self.target_params)
        if self.guidance_space == "signal":
            signal = self._moved(self.denoiser.guide(unconditional, conditional, self.guidance_scale))
            if self._towards_context is not None:
                return Estimate(forward_model(signal, params), signal)
            parts = self._other(unconditional), self._remembering(conditional)
            observed = forward_model(self.denoiser.guide(*parts, self.guidance_scale), params)
            return Estimate(observed, signal)
        if self._towards_context is None:
            c, u = forward_model(self._remembering(signals), self.target_params).chunk(2)
        else:
            # Only the signal that knows the context.
            conditional = self._moved(conditional)
            c, u = (forward_model(signal, params) for signal in (conditional, unconditional))
        return Estimate(u + self.guidance_scale * (c - u), conditional)

    def _forward_model(self, noisy: Tensor, level: Level) -> ForwardModel:
        """Return what observes the signals of an evaluation at these levels."""
        if self._quicker:
            # A run goes from noise to none: where noise does not fall, another one begins.
            if self._last is None or bool((level >= self._last).any()):
                self._in_run = self.forward_model.in_run()
            self._last = level
        while_noisy = self._in_run.while_noisy()
        if self._process is None or while_noisy is self._in_run:
            return self._in_run
        signal_rate, noise_rate = self._process.rates(level, noisy)
        return while_noisy if bool((noise_rate > signal_rate).all()) else self._in_run

    def _estimated(self, noisy: Float[Tensor, "b v c h w"], level: Level) -> tuple[Any, Any]:
        """Return the signal, and the signal to observe: the same, but it may remember earlier results."""
        signal = self.denoiser(noisy, level, self.conditioning)
        # (A perturbed signal has the same context, and so the same memory of it.)
        observed = self._remembering(signal)
        if self.perturbed_attention is not None:
            with self.perturbed_attention.perturbing(self.denoiser):
                perturbed = self.denoiser(noisy, level, self.conditioning)
            scale = 1.0 + self.perturbed_attention.scale
            observed = self.denoiser.guide(self._remembering(perturbed), observed, scale)
            signal = self.denoiser.guide(perturbed, signal, scale)
        if self._towards_context is not None:
            signal = observed = self._moved(signal)
        return signal, observed

    def _moved(self, signal: Any) -> Any:
        return signal if self._towards_context is None else self._towards_context(signal)


def _unchanged(signal: Any) -> Any:
    return signal
