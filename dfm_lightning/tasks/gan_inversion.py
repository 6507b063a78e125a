"""GAN inversion: from a patch of an image to the codes of a generator that explain it (DFM, supplement 2.3)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers import PatchToCode
from dfm_lightning.diffusion import (
    ContextGuidance,
    GuidanceSpace,
    MinorityScore,
    NoiseProcess,
    PerturbedAttention,
    Sampler,
)
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import ImageGeneration
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.optimizers import OptimizerChoice
from dfm_lightning.sampling import evaluated
from dfm_lightning.types import Batch, Prediction, Views, map_tensors, on_cpu

GENERATOR_KEY = "generator_fingerprint"


class SampledCode(NamedTuple):
    """A sampled code, one for all layers or one for each, and its image at the generator's full resolution."""

    code: Float[Tensor, "1 l w_dim"]
    image: Float[Tensor, "3 size size"]


class EvaluatedPatch(NamedTuple):
    """A test image, its visible patch, and samples that complete it. On the CPU; images in [-1, 1].

    `mean_image` and `mean_code` are the generator's mean code and its image, which need no model.
    """

    key: str
    mask: Float[Tensor, "1 h w"]
    truth: Float[Tensor, "3 h w"]
    samples: Float[Tensor, "s 3 h w"]
    mean_image: Float[Tensor, "3 h w"]
    true_code: Float[Tensor, " w_dim"]
    codes: Float[Tensor, "s l w_dim"]
    mean_code: Float[Tensor, " w_dim"]


class GANInversion(DiffusionWithForwardModel[Tensor, Tensor]):
    """Codes whose images, downsampled, are diffused, given a patch of the image.

    The generator is frozen, and neither trained nor averaged nor stored: a checkpoint remembers which one it
    was trained with, and refuses another.

    Args:
        denoiser: predicts the code from the patch and a noisy image.
        forward_model: runs the generator.
        process: the noising of images.
        sampler: the reverse process used by sampling, test and predict.
        optimizer: the optimizer and its schedule, such as `AdamWithWarmup` or `TorchOptimizer`; or a class of
            `torch.optim`, for a constant rate.
        context_dropout: probability that a training batch shows no patch, so that the model can be guided; 0
            for models sampled without guidance.
        guidance_scale: classifier-free guidance in sampling; 1 is none.
        guidance_space: where guidance extrapolates. "signal": the guided image is an image of the guided code.
            "observation": the code stays unguided.
        samples: number of codes drawn for each patch in test and predict.
        draw_batch: how many of them predict draws in one batch; see `PredictingModule`.
        context_guidance: gradient steps of each predicted code towards the patch in sampling; none if None.
        perturbed_attention: guidance in sampling, for twice the evaluations of the network; none if None.
        minority: scores how rare each sampled image is, for some evaluations more; none if None.
    """

    denoiser: PatchToCode
    forward_model: ImageGeneration

    def __init__(
        self,
        denoiser: PatchToCode,
        forward_model: ImageGeneration,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        optimizer: OptimizerChoice | None = None,
        context_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_space: GuidanceSpace = "signal",
        samples: int = 8,
        draw_batch: int = 1,
        context_guidance: ContextGuidance | None = None,
        perturbed_attention: PerturbedAttention | None = None,
        minority: MinorityScore | None = None,
    ) -> None:
        super().__init__(
            denoiser,
            forward_model,
            process,
            sampler,
            optimizer,
            context_dropout=context_dropout,
            guidance_scale=guidance_scale,
            guidance_space=guidance_space,
            samples=samples,
            draw_batch=draw_batch,
            context_guidance=context_guidance,
            perturbed_attention=perturbed_attention,
            minority=minority,
        )
        shape = forward_model.generator.architecture
        if denoiser.code_width != shape.w_dim or denoiser.layers not in (1, shape.layers):
            raise UserError(
                f"this generator takes codes of {shape.w_dim} numbers, one for all or one for each of its "
                f"{shape.layers} layers; the denoiser gives {denoiser.layers} of {denoiser.code_width}: "
                "set denoiser.code_width and denoiser.layers"
            )
        denoiser.centre(*forward_model.statistics())

    # --- the generator's identity -----------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Check that the data come from the generator that is to be inverted."""
        source = getattr(getattr(self.trainer, "datamodule", None), "generator", None)
        fingerprint = getattr(source, "fingerprint", self.forward_model.fingerprint)
        if fingerprint != self.forward_model.fingerprint:
            raise UserError(
                "data.generator and model.forward_model.generator are two different generators: "
                "give both the same file"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the generator's fingerprint."""
        checkpoint[GENERATOR_KEY] = self.forward_model.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that were trained with another generator."""
        trained_with = checkpoint.get(GENERATOR_KEY)
        if trained_with != self.forward_model.fingerprint:
            raise UserError(
                f"the checkpoint was trained with generator {str(trained_with)[:16]}, "
                f"model.forward_model.generator is {self.forward_model.fingerprint[:16]}: give the file it was "
                "trained with"
            )

    # --- test -------------------------------------------------------------------------------------------

    @evaluated
    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[EvaluatedPatch]]:
        """Draw codes for each patch; a report measures the `scenes`, except those it has measured before."""
        rows = [row for row, key in enumerate(batch.key) if self.plan.pending(key, self.samples)]
        return {"scenes": [self._evaluate(map_tensors(lambda t, r=row: t[r : r + 1], batch), key)
                           for row, key in ((row, batch.key[row]) for row in rows)]}  # fmt: skip

    def _evaluate(self, batch: Batch, key: str) -> EvaluatedPatch:
        """Draw samples for one patch (batch of one)."""
        names: list[tuple[str | int, ...]] = [("test", key, sample) for sample in range(self.samples)]
        whole = batch.target.params
        drawn = self.sample(batch.context, whole, names, self.target_size(batch.context))
        mean_code = self.denoiser.mean
        evaluated = EvaluatedPatch(
            key=key,
            mask=batch.context.params[0, 0],
            truth=batch.target.observation[0, 0],
            samples=self.forward_model(drawn.signal, whole.expand(self.samples, -1, -1, -1, -1))[:, 0],
            mean_image=self.forward_model(mean_code[None, None], whole)[0, 0],
            true_code=batch.truth["code"][0],
            codes=drawn.signal,
            mean_code=mean_code,
        )
        self.plan.worked(self.samples)
        return on_cpu(evaluated)

    def observe(self, signal: Tensor | SampledCode, params: Tensor) -> Tensor:
        """See `DiffusionSampling`; a code or a `SampledCode`."""
        return super().observe(signal.code if isinstance(signal, SampledCode) else signal, params)

    # --- predict ----------------------------------------------------------------------------------------

    def predict_draws(self, key: str, context: Views, params: Tensor, draws: range) -> Iterator[Prediction]:
        """Draw some codes for one patch at once, each with its image at full resolution."""
        for prediction in super().predict_draws(key, context, params, draws):
            image = self.forward_model.full_image(prediction.signal)[0]
            yield prediction._replace(signal=SampledCode(prediction.signal, image))
