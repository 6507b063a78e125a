"""Linear inverse problems: images from linear measurements of them, by a model that knows the operator or not."""

import math
from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.denoisers.operator_denoiser import edm_weight
from dfm_lightning.diffusion import (
    ContextGuidance,
    Heun,
    Karras,
    MinorityScore,
    NoiseProcess,
    Sampler,
    VarianceExploding,
)
from dfm_lightning.diffusion.zero_shot import ZeroShotSolver, linear_problem
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    LinearObservation,
    Sensing,
    check_context,
    one_a_view,
    zero_operator,
)
from dfm_lightning.losses.principal_directions import DirectionLoss, direction_terms, orthogonal_directions
from dfm_lightning.module import DenoisedBatch, DiffusionWithForwardModel
from dfm_lightning.optimizers import AdamWithWarmup, OptimizerChoice
from dfm_lightning.randomness import named_noise
from dfm_lightning.ranges import Number, check_above, check_at_least
from dfm_lightning.sampling import NoiseNames, evaluated
from dfm_lightning.tasks.linear_scores import LinearSolution, evaluate_images, pictures_of, score_image
from dfm_lightning.types import (
    Batch,
    Level,
    LossTerm,
    Prediction,
    Request,
    Sample,
    Views,
    as_request,
    at_least_float32,
    map_tensors,
    repeat_batch,
    select_views,
)


class LinearInverseProblem(DiffusionWithForwardModel[Tensor, Sensing]):
    """Images whose linear measurements are given; trained with EDM's loss and its learned weighting.

    One model, several uses: samples of the posterior by `sampler`, its mean by one step at the highest noise (or a
    few more), its principal directions where the denoiser has a head for them, images without any measurement,
    and, by `solver`, zero-shot solutions that use the model without measurement. Trained on targets that are
    measurements, it is operator-aware DFM.

    Args:
        denoiser: predicts images.
        process: the noising of images; EDM's, with its distribution of noise levels in training (EDM2), if none.
        sampler: the reverse process; Heun's of 32 steps and 63 evaluations if none.
        optimizer: see `DiffusionWithForwardModel`.
        solver: draws samples in place of the sampler, for a model that is not told the measurement.
        unconditional: whether samples ignore the measurement.
        direction_weight: weight of the losses of principal directions, which take a second evaluation.
        direction_loss: by InvFusion's formulas and ramps, or by NPPC's.
        context_dropout: probability that a training batch has its measurement dropped; the class instead, for
            denoisers that know classes.
        guidance_scale: classifier-free guidance in sampling, away from what is dropped; 1 is none.
        samples: number of images drawn for each measurement in test and predict.
        draw_batch: how many of them are drawn in one batch; see `PredictingModule`.
        mean_noises: further noise levels σ of the estimate of the mean, falling; see `posterior`. None are the
            paper's one step.
        mean_draws: number of draws of noise over which the estimate of the mean is averaged.
        context_guidance: gradient steps of each predicted image towards the measurement in sampling; none if None.
        minority: scores how rare each sampled image is, for some evaluations more; none if None.
    """

    without_effect = frozenset({"direction_weight", "direction_loss"})
    stock_parts: ClassVar[dict[str, type]] = {
        "process": VarianceExploding,
        "sampler": Heun,
        "optimizer": AdamWithWarmup,
    }
    denoiser: OperatorDenoiser

    def __init__(
        self,
        denoiser: OperatorDenoiser,
        process: NoiseProcess | None = None,
        sampler: Sampler | None = None,
        optimizer: OptimizerChoice | None = None,
        solver: ZeroShotSolver | None = None,
        unconditional: bool = False,
        direction_weight: Number = 0.0,
        direction_loss: DirectionLoss = "invfusion",
        context_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        samples: int = 8,
        draw_batch: int = 1,
        mean_noises: Sequence[Number] = (),
        mean_draws: int = 1,
        context_guidance: ContextGuidance | None = None,
        minority: MinorityScore | None = None,
    ) -> None:
        super().__init__(
            denoiser,
            LinearObservation(),
            process or VarianceExploding(training_log_noise=(-0.8, 1.6)),
            sampler or Heun(32, spacing=Karras()),
            optimizer,
            context_dropout=context_dropout,
            guidance_scale=guidance_scale,
            samples=samples,
            draw_batch=draw_batch,
            context_guidance=context_guidance,
            minority=minority,
        )
        check_at_least(0, direction_weight=direction_weight)
        check_above(0, mean_noises=mean_noises)
        check_at_least(1, mean_draws=mean_draws)
        if any(next_one >= one for one, next_one in pairwise(mean_noises)):
            raise ValueError(f"mean_noises must fall, got {list(mean_noises)}")
        if solver is not None and context_guidance is not None:
            raise UserError("a zero-shot solver uses the measurement in its own way: set context_guidance to null")
        if solver is not None and minority is not None:
            raise UserError("samples of a zero-shot solver have no minority score: set minority to null")
        if direction_weight > 0 and not denoiser.directions:
            raise UserError(
                "direction_weight needs a denoiser with a head for directions: set denoiser.directions"
            )
        self.solver = solver
        self.unconditional = unconditional
        self.direction_weight = direction_weight
        self.direction_loss = direction_loss
        self.mean_noises = list(mean_noises)
        self.mean_draws = mean_draws

    # --- training ---------------------------------------------------------------------------------------

    def observation_losses(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """See `DiffusionWithForwardModel`: λ/eᵘ times the squared error, plus u, at each image's noise level."""
        observed, compared = denoised.observed.observation, denoised.compared.observation
        error = (observed.to(at_least_float32(observed)) - compared).square().flatten(1).mean(dim=1)
        return {"target": LossTerm(self._weighted(error, denoised.level), self.target_weight)}

    def _weighted(self, error: Float[Tensor, " b"], level: Level) -> Float[Tensor, ""]:
        """Weigh squared errors of noise levels as EDM2 does: λ/eᵘ · error + u."""
        expected = self.denoiser.loss_variance(level).to(error.dtype)
        weight = edm_weight(self.denoiser.noise_of(level), self.denoiser.data_std).to(error.dtype)
        return (weight / expected.exp() * error + expected).mean()

    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        """See `DiffusionWithForwardModel`: the losses of the mean and its directions, at the highest noise.

        The mean's is weighted as at all other levels. Unweighted, as in InvFusion, it is too small to be learnt
        beside theirs.
        """
        if not self.direction_weight:
            return {}
        clean = denoised.batch.target.observation
        level = self._highest(len(clean), clean.device)
        noisy = self.process.add_noise(clean, torch.randn_like(clean), level).to(clean.dtype)
        mean, directions = self.denoiser.evaluate(
            *self.process.denoiser_input(noisy, level), denoised.conditioning
        )
        error = (mean - clean[:, 0]).to(at_least_float32(mean))
        terms = direction_terms(error.detach(), directions.to(error.dtype), self.direction_loss, self.global_step)
        weight = float(self.direction_weight)
        return {
            "mean": LossTerm(self._weighted(error.square().flatten(1).mean(dim=1), level), weight),
            **{name: LossTerm(term.value, weight * term.weight) for name, term in terms.items()},
        }

    def _highest(self, batch: int, device: torch.device) -> Level:
        dtype = torch.long if self.process.integer_levels else torch.float32
        return torch.full((batch,), self.process.last_level, dtype=dtype, device=device)

    # --- sampling ---------------------------------------------------------------------------------------

    def target_deviation(self, target_params: Sensing) -> None:
        """See `DiffusionSampling`: none. Targets are images, or A†y, whose noise is not independent."""
        return

    def on_test_start(self) -> None:
        """See `PredictingModule`; refuse a model that was not trained for the requested use."""
        super().on_test_start()
        self.check_conditioning()

    def on_predict_start(self) -> None:
        """See `on_test_start`."""
        super().on_predict_start()
        self.check_conditioning()

    def check_conditioning(self) -> None:
        """Raise `UserError` if a model that takes no measurements is asked to use them."""
        given = self.denoiser.backprojection or self.denoiser.is_operator_aware
        if not given and self.solver is None and not self.unconditional:
            raise UserError(
                "this model was trained without measurements (no A†y, no level with the operator): "
                "set model.solver to a zero-shot solver, or model.unconditional to true"
            )

    @evaluated
    def sample(
        self, context: Views, target_params: Sensing, noise_names: NoiseNames, size: tuple[int, ...]
    ) -> Sample:
        """See `DiffusionSampling`; by the zero-shot solver if there is one.

        Raises:
            UserError: a measurement is empty, not finite or of another size than its operator's, σ_y is negative,
                or the solver needs what the operator lacks.
        """
        check_context(context)
        if self.solver is None:
            seen = self.without_measurement(context) if self.unconditional else context
            return super().sample(seen, target_params, noise_names, size)
        copies = len(noise_names) // len(context.observation)
        context, target_params = repeat_batch(context, copies), repeat_batch(target_params, copies)
        conditioning = self.denoiser.condition(self.without_measurement(context), target_params)
        draws, device = count(), context.observation.device

        def draw_noise() -> Float[Tensor, "b c h w"]:
            number = next(draws)
            return named_noise([(*name, number) for name in noise_names], size, device)

        def denoise(noisy: Tensor, level: Level) -> Tensor:
            self.plan.worked(len(noise_names))
            # Operators may compute in double precision, whatever the network does.
            return self.denoiser(noisy[:, None].to(context.observation.dtype), level, conditioning)

        problem = linear_problem(
            one_a_view(context.params.operator), context.observation[:, 0], context.params.noise[:, 0]
        )
        image = self.solver.solve(denoise, problem, draw_noise(), self.process, draw_noise)
        image = image.to(context.observation.dtype)
        return Sample(image, image[:, None])

    @evaluated
    def posterior(
        self, key: str, context: Views, target_params: Sensing
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k c h w"]]:
        """Estimate the posterior's mean, and its principal directions by one step at the highest noise.

        Without `mean_noises`, the mean is by the same step, as InvFusion's. At any noise level, the mean of the
        estimates E[x | xₜ, y] over all noisy images xₜ of the posterior is the posterior's mean, and a network may
        know lower levels better: so the probability flow is followed through `mean_noises`, by Euler's steps, and
        the last level's estimates count. They are averaged over `mean_draws` draws of noise.

        Raises:
            UserError: see `sample`.
        """
        check_context(context)
        context = self.without_measurement(context) if self.unconditional else context
        scenes, device = len(context.observation), context.observation.device
        draws = self.mean_draws
        # (Copies of a scene follow each other.)
        context, target_params = repeat_batch(context, draws), repeat_batch(target_params, draws)
        conditioning = self.denoiser.condition(context, target_params)
        names = [("mean", key), *[("mean", key, number) for number in range(1, draws)]] * scenes
        size = (1, *self.target_size(context))
        noise = named_noise(names, size, device).to(context.observation.dtype)
        level = self._highest(len(noise), device)
        noisy = self.process.add_noise(torch.zeros_like(noise), noise, level).to(noise.dtype)
        mean, directions = self.denoiser.evaluate(*self.process.denoiser_input(noisy, level), conditioning)
        for sigma in self.mean_noises:
            kept = self.process.noise_from_clean(noisy, mean[:, None], level)
            level = torch.full_like(level, self._level_of(sigma))
            noisy = self.process.add_noise(mean[:, None], kept, level).to(noise.dtype)
            mean = self.denoiser(*self.process.denoiser_input(noisy, level), conditioning)
        return mean.unflatten(0, (scenes, draws)).mean(dim=1), orthogonal_directions(directions[::draws])

    def _level_of(self, sigma: Number) -> float:
        """Return the level at which x + t z has this noise t; the nearest, if levels are whole."""
        level = self.process.level_at(-math.log(sigma))
        return round(level) if self.process.integer_levels else level

    def without_measurement(self, context: Views) -> Views:
        """Return the context of an image of which nothing was measured."""
        params, seen = context.params, context.observation
        # (By the operator that shows nothing, which costs nothing.)
        shape = (*seen.shape[:2], *one_a_view(params.operator).image_shape)
        operator = map_tensors(lambda tensor: tensor.to(seen), zero_operator(shape))
        unknown = torch.full_like(params.noise, float("inf"))
        return Views(seen.new_zeros(*shape[:3], 1, 1), params._replace(operator=operator, noise=unknown))

    def work(self, batch: Batch | Request) -> int:
        """See `DiffusionWithForwardModel.work`."""
        evaluations = self.evaluations if self.solver is None else self.solver.evaluations
        return len(batch.key) * self.draws * (evaluations + 1)

    def predict_draws(self, key: str, context: Views, params: Sensing, draws: range) -> Iterator[Prediction]:
        """See `PredictingModule`: each image with the posterior's mean and principal directions."""
        mean, directions = self.posterior(key, context, select_views(params, slice(0, 1)))
        for prediction in super().predict_draws(key, context, params, draws):
            solution = LinearSolution(prediction.signal, mean[0], directions[0])
            yield prediction._replace(signal=solution)

    # --- test -------------------------------------------------------------------------------------------

    @evaluated
    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Score the images drawn for each measurement against `truth["image"]`; see `score_image`.

        "scenes" holds an `EvaluatedImage` of each measurement; A†y, the truth, the mean and the images are
        "pictures", and the operators' classes "groups", for reports.
        """
        drawn: dict[str, list[LinearSolution]] = {}
        for prediction in self.predictions(as_request(batch)):
            drawn.setdefault(prediction.key, []).append(prediction.signal)
        evaluated = []
        for row, key in enumerate(batch.key):
            if key in drawn:
                context = map_tensors(lambda tensor, i=row: tensor[i : i + 1], batch.context)
                evaluated.append(evaluate_images(key, drawn[key], batch.truth["image"][row], context))
        return {
            "scenes": evaluated,
            "scores": {image.key: score_image(image) for image in evaluated},
            "pictures": {image.key: pictures_of(image) for image in evaluated},
            "groups": {image.key: image.operator for image in evaluated},
        }
