"""Context guidance: steps as plain gradient descent has them, noise that is not fitted, every sampler."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from dfm_lightning import diffusion
from dfm_lightning.diffusion import (
    DDIM,
    ContextGuidance,
    CosineProcess,
    GuidanceSpace,
    ObservationDenoiser,
    Sampler,
    TimeShift,
)
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import LinearObservation, mask_operator, matrix_operator, sensing
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.types import Level, Views, map_tensors

SCENES, NUMBERS, MEASURED = 3, 6, 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROWS = drawn(SCENES, MEASURED, 1, 2, 3)


def measurements(noise: float = 0.0, views: int = 1) -> Views:
    """Measurements of images by other images than those they are compared with."""
    operators = [matrix_operator(ROWS + number) for number in range(views)]
    stacked = map_tensors(lambda *parts: torch.stack(parts, dim=1), *operators)
    params = sensing(stacked, (SCENES, views), noise)
    return Views(drawn(SCENES, views, MEASURED, 1, 1, seed=5), params)


def descended(rows: np.ndarray, measured: np.ndarray, image: np.ndarray, steps: int, rate: float) -> np.ndarray:
    length = np.linalg.norm(rows, 2)
    for _ in range(steps):
        image = image - rate / length**2 * rows.T @ (rows @ image - measured)
    return image


@pytest.mark.parametrize(("steps", "rate"), [(1, 1.0), (3, 1.0), (4, 1.9)])
def test_steps_are_those_of_gradient_descent_by_the_operators_norm(steps: int, rate: float) -> None:
    context, image = measurements(), drawn(SCENES, 1, 2, 3, seed=1)
    found = ContextGuidance(steps, rate).towards(LinearObservation(), context, 1)(image)
    for scene in range(SCENES):
        rows, measured = ROWS[scene].flatten(1).numpy(), context.observation[scene].flatten().numpy()
        expected = descended(rows, measured, image[scene].flatten().numpy(), steps, rate)
        assert found[scene].flatten().numpy() == pytest.approx(expected, abs=1e-5)


def test_the_norm_of_several_views_bounds_that_of_all_together() -> None:
    context = measurements(views=2)
    together = torch.cat([ROWS.flatten(2), (ROWS + 1).flatten(2)], dim=1)
    exact = torch.linalg.matrix_norm(together, ord=2)
    bound = LinearObservation().operator_norm(context.params)
    assert (bound >= exact).all()
    assert (bound <= 2**0.5 * exact).all()


def residuals(context: Views, image: Tensor) -> Tensor:
    return (LinearObservation()(image, context.params) - context.observation).flatten(1).norm(dim=1)


def greatest(numbers: int) -> float:
    """Length of standard normal noise, two standard deviations of its square above the mean."""
    return float(stats.chi2(numbers).mean() + 2 * stats.chi2(numbers).std()) ** 0.5


def test_known_noise_is_not_fitted() -> None:
    noise = 0.4
    context, image = measurements(noise), drawn(SCENES, 1, 2, 3, seed=1)
    # One that explains its measurement better than the noise allows already.
    exact = matrix_operator(ROWS).pseudo_inverse(context.observation[:, 0])
    image[1] = exact[1]
    found = ContextGuidance(500).towards(LinearObservation(), context, 1)(image)
    level = noise * greatest(MEASURED)
    assert residuals(context, found).numpy() == pytest.approx([level, 0, level], abs=1e-6)
    assert torch.equal(found[1], image[1])
    for given in (0.0, 0.2):
        # What is set counts, whatever the data say.
        told = ContextGuidance(500, noise=given).towards(LinearObservation(), context, 1)(image)
        assert residuals(context, told)[0] == pytest.approx(given * greatest(MEASURED), abs=0.02)


def test_the_noise_of_a_mask_counts_where_something_is_seen() -> None:
    seen = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    seen[..., :2] = 1
    operator = map_tensors(lambda part: part[:, None], mask_operator(seen, 1))
    context = Views(torch.zeros(1, 1, 1, 4, 4, dtype=torch.float64), sensing(operator, (1, 1), 0.5))
    found = ContextGuidance(5).towards(LinearObservation(), context, 1)(drawn(1, 1, 4, 4) * 3)
    assert residuals(context, found)[0] == pytest.approx(0.5 * greatest(8))


@pytest.mark.parametrize("noise", [None, 0.3])
def test_where_nothing_was_measured_nothing_moves(noise: float | None) -> None:
    context = measurements(noise=float("inf"))
    image = drawn(SCENES, 1, 2, 3, seed=1)
    assert torch.equal(ContextGuidance(noise=noise).towards(LinearObservation(), context, 1)(image), image)


# --- forward models without a norm, signals of several tensors ---------------------------------------------------


class Curve(NamedTuple):
    """A signal whose parts have one number a scene, and a name that is no tensor."""

    height: Float[Tensor, "b"]
    slope: Float[Tensor, "b"]
    name: str


class Points(ForwardModel):
    """Values at positions φ [b v]: a power of the line."""

    def __init__(self, power: int = 1, claimed: float = 0.0) -> None:
        super().__init__()
        self.power = power
        self.claimed = claimed

    def forward(self, signal: Curve, params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 1 1 1"]:
        value = signal.height[:, None] + signal.slope[:, None] * params
        return value.pow(self.power)[..., None, None, None]

    def operator_norm(self, params: Float[Tensor, "b v"]) -> Float[Tensor, "b"] | None:
        return torch.full((len(params),), self.claimed) if self.claimed else None


POSITIONS = drawn(2, 3, seed=3).float()
POINTS = Views(drawn(2, 3, 1, 1, 1, seed=4).float().abs(), POSITIONS)
CURVES = Curve(torch.tensor([1.0, -2.0]), torch.tensor([0.3, 0.6]), "curves")


def test_without_a_norm_the_step_is_that_to_the_minimum_along_the_gradient() -> None:
    found = ContextGuidance(1).towards(Points(), POINTS, 1)(CURVES)
    assert found.name == "curves"
    for scene in range(2):
        rows = np.stack([np.ones(3), POSITIONS[scene].numpy()], axis=1)
        start = np.array([CURVES.height[scene], CURVES.slope[scene]])
        gradient = rows.T @ (rows @ start - POINTS.observation[scene].flatten().numpy())
        expected = start - gradient * (gradient @ gradient) / np.square(rows @ gradient).sum()
        assert [found.height[scene], found.slope[scene]] == pytest.approx(expected, rel=1e-4)


def error(model: Points, signal: Curve) -> Tensor:
    return (model(signal, POSITIONS) - POINTS.observation).flatten(1).norm(dim=1)


@pytest.mark.parametrize("claimed", [0.0, 0.02, 3.0])
def test_steps_never_increase_the_residual_of_a_forward_model_that_is_not_linear(claimed: float) -> None:
    model = Points(power=3, claimed=claimed)
    before = error(model, CURVES)
    found = [ContextGuidance(steps).towards(model, POINTS, 1)(CURVES) for steps in (1, 2, 4, 16)]
    each = torch.stack([before, *(error(model, signal) for signal in found)])
    assert (each.diff(dim=0) <= 1e-5).all()
    assert (each[-1] < before).all()


def test_a_scene_does_not_depend_on_the_others_of_its_batch() -> None:
    model, guidance = Points(power=2), ContextGuidance(4)
    together = guidance.towards(model, POINTS, 1)(CURVES)
    for scene in range(2):
        rows = slice(scene, scene + 1)
        of_one = Curve(CURVES.height[rows], CURVES.slope[rows], "one")
        alone = guidance.towards(model, Views(POINTS.observation[rows], POSITIONS[rows]), 1)(of_one)
        torch.testing.assert_close(alone.height[0], together.height[scene])


def test_half_precision_is_kept_and_steps_are_not_lost_in_it() -> None:
    half = Curve(CURVES.height.bfloat16(), CURVES.slope.bfloat16(), "half")
    found = ContextGuidance(5).towards(Points(), POINTS, 1)(half)
    assert found.height.dtype == torch.bfloat16
    assert (error(Points(), Curve(found.height.float(), found.slope.float(), "")) < error(Points(), CURVES)).all()


# --- in sampling -----------------------------------------------------------------------------------------------


class Guesser(SignalDenoiser):
    """Predicts lines from the context's sum and the noisy target, wrongly."""

    def condition(self, context: Views, target_params: Tensor) -> Tensor:
        return context.observation.flatten(1).sum(dim=1)

    def forward(self, noisy: Tensor, level: Level, conditioning: Tensor) -> Curve:
        value = noisy.flatten(1).mean(dim=1)
        return Curve(0.3 * conditioning, value.tanh() + 0.1 * conditioning.sign(), "")


def every_sampler() -> list[type[Sampler]]:
    found = [getattr(diffusion, name) for name in diffusion.__all__]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Sampler) and not is_base(kind)]


def is_base(kind: type) -> bool:
    return bool(getattr(kind, "__abstractmethods__", ()))


def denoiser(guidance: ContextGuidance | None, scale: float = 1.0, space: GuidanceSpace = "signal") -> Any:
    return ObservationDenoiser(Guesser(), Points(), POINTS, POSITIONS[:, :1], 2, scale, space, guidance)


@pytest.mark.parametrize("kind", every_sampler(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("scale", "space"), [(1.0, "signal"), (2.0, "signal"), (2.0, "observation")])
def test_samples_of_every_sampler_and_guidance_come_nearer_to_the_context(
    kind: type[Sampler], scale: float, space: GuidanceSpace
) -> None:
    sampler = TimeShift(DDIM(steps=4)) if kind is TimeShift else kind(steps=4)
    process = CosineProcess()
    noise = drawn(4, 1, 1, 1, 1, seed=9).float()
    errors = []
    for guidance in (None, ContextGuidance(1), ContextGuidance(25)):
        *_, last = sampler.sample(denoiser(guidance, scale, space), noise, process, lambda: noise)
        observed = Points()(last.source, POSITIONS.repeat_interleave(2, dim=0))
        errors.append((observed - POINTS.observation.repeat_interleave(2, dim=0)).flatten(1).norm(dim=1))
        if space == "signal":
            at_target = Points()(last.source, POSITIONS[:, :1].repeat_interleave(2, dim=0))
            torch.testing.assert_close(at_target, last.noisy)
    assert (errors[1] < errors[0]).all()
    # Two numbers cannot explain three: as near as a line comes.
    best = [
        np.linalg.lstsq(np.stack([np.ones(3), p.numpy()], 1), o.flatten().numpy(), rcond=None)[1][0] ** 0.5
        for p, o in zip(POSITIONS, POINTS.observation, strict=True)
    ]
    assert errors[2].numpy() == pytest.approx(np.repeat(best, 2), rel=1e-2)


def test_what_cannot_be_guided_is_refused() -> None:
    guide = ContextGuidance().towards(Points(), POINTS, 1)
    with pytest.raises(UserError, match="trees of tensors"):
        guide("curve")
    with pytest.raises(UserError, match="trees of tensors"):
        guide(Curve(torch.zeros(1), torch.zeros(1), ""))
    other = Views(torch.zeros(2, 3, 1, 2, 2), POSITIONS)
    with pytest.raises(UserError, match=r"\(3, 1, 1, 1\).*\(3, 1, 2, 2\)"):
        ContextGuidance().towards(Points(), other, 1)(CURVES)

    class Deaf(Points):
        def forward(self, signal: Curve, params: Tensor) -> Tensor:
            return super().forward(map_tensors(lambda t: t.detach(), signal), params)

    with pytest.raises(UserError, match="do not depend on it"):
        ContextGuidance().towards(Deaf(), POINTS, 1)(CURVES)
    for wrong in (0.0, 2.0, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            ContextGuidance(rate=wrong)
