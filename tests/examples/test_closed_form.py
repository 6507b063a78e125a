"""Samples of a trained model follow the posterior that is known in closed form; those of broken ones do not.

Error rates: docs/notes/closed_form.md. A model without error would fail the first test by chance in about 2 of
10,000 seeds (each of its two tests rejects at α = 1e-4).
"""

from collections.abc import Iterator

import pytest
import torch
from breakages import (
    LastStepSkipsLevels,
    NoisyLastStep,
    WithoutLastStep,
    level_embedding_of_zeros,
    sampled_by,
    told_the_same_level,
)
from comparison import ALPHA, PERMUTATIONS, Draws, EnergyTest, draw, energy_test, judge, relative_spread
from measure import guided_by
from mixture import three_clusters
from training import train

from dfm_lightning.diffusion import DDIM, Quadratic, UniPC
from dfm_lightning.module import DiffusionWithForwardModel

SEED = 0
SHORT = 500  # iterations where the mistake is far larger than what more of them would improve

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def _environment() -> Iterator[None]:
    """Seeding everything is remembered in the environment; not beyond this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", str(SEED))
        yield


@pytest.fixture(scope="module")
def model() -> DiffusionWithForwardModel:
    return train(SEED)


@pytest.fixture(scope="module")
def limited() -> DiffusionWithForwardModel:
    """Trained where context and target leave one direction of the signal open."""
    return train(SEED, target_numbers=1, iterations=2 * SHORT)


def error_along_context(drawn: Draws) -> float:
    """Root mean square of what the samples say about the context's number, against the number itself."""
    context = drawn.scenes.context
    said = drawn.sampled @ context.params[:, 0].mT
    return float((said - context.observation[:, 0, :, 0]).square().mean().sqrt())


def compare_along_target(drawn: Draws) -> EnergyTest:
    """Compare the exact and the sampled signals as the target sees them."""
    axes = drawn.scenes.target.params[:, 0].mT
    return energy_test(drawn.exact @ axes, drawn.sampled @ axes, PERMUTATIONS, torch.Generator().manual_seed(0))


def test_samples_follow_the_exact_posterior(model: DiffusionWithForwardModel) -> None:
    verdict = judge(draw(model, SEED))
    assert verdict.passes, verdict


@pytest.mark.parametrize("evaluations", [15, 8])
def test_so_do_samples_of_few_evaluations(model: DiffusionWithForwardModel, evaluations: int) -> None:
    verdict = judge(draw(sampled_by(model, UniPC(evaluations, spacing=Quadratic())), SEED))
    assert verdict.passes, verdict


@pytest.mark.parametrize("steps", [1, 3])
def test_so_do_samples_with_context_guidance(model: DiffusionWithForwardModel, steps: int) -> None:
    drawn, unguided = draw(guided_by(model, steps), SEED), draw(model, SEED)
    verdict = judge(drawn)
    assert verdict.passes, verdict
    # The context's number is met, which it is not without guidance,
    assert error_along_context(drawn) < 1e-4 < 0.01 * error_along_context(unguided)
    # and draws of a scene remain as different as they are without.
    ratio = relative_spread([drawn]).ratio
    assert ratio == pytest.approx(relative_spread([unguided]).ratio, abs=0.01)
    assert 0.85 < ratio < 1.1


def test_draws_that_are_too_alike_are_found_out(model: DiffusionWithForwardModel) -> None:
    cold = sampled_by(model, DDIM(model.sampler.steps, temperature=0.7))
    assert relative_spread([draw(guided_by(cold, 3), SEED)]).ratio < 0.8


def test_a_denoiser_that_is_not_told_the_level_is_found_out(model: DiffusionWithForwardModel) -> None:
    for level in (100, 500, 900):
        verdict = judge(draw(told_the_same_level(model, level), SEED))
        assert not verdict.passes, (level, verdict)


@pytest.mark.parametrize("sampler", [WithoutLastStep, NoisyLastStep, LastStepSkipsLevels])
def test_a_wrong_last_step_is_found_out(model: DiffusionWithForwardModel, sampler: type[DDIM]) -> None:
    verdict = judge(draw(sampled_by(model, sampler(model.sampler.steps)), SEED))
    assert not verdict.passes, verdict


def test_training_without_the_level_is_found_out() -> None:
    with level_embedding_of_zeros():
        verdict = judge(draw(train(SEED, iterations=SHORT), SEED))
    assert not verdict.passes
    assert verdict.energy.deviations > 8  # sound training of the same length: 1.4


def test_without_the_novel_loss_what_the_target_does_not_see_goes_wrong(model: DiffusionWithForwardModel) -> None:
    drawn = draw(train(SEED, novel_weight=0.0, iterations=SHORT), SEED)
    verdict = judge(drawn)
    assert not verdict.passes
    assert verdict.energy.deviations > 12
    # What the target sees is sampled well enough; the context's own number is not even kept.
    assert compare_along_target(drawn).deviations < 6
    assert error_along_context(drawn) > 0.3
    assert error_along_context(draw(model, SEED)) < 0.1


def open_axis(drawn: Draws) -> torch.Tensor:
    """The direction [b 3 1] that neither context nor target sees."""
    context, target = drawn.scenes.context.params[:, 0, 0], drawn.scenes.target.params[:, 0, 0]
    return torch.linalg.cross(context, target)[..., None]


def error_from_mean(drawn: Draws) -> float:
    """Root mean square distance along the open axis between samples and what they should be there.

    That is the exact mean, given the context and the target observation that was sampled.
    """
    scenes, draws = drawn.sampled.shape[:2]
    rows = torch.cat([drawn.scenes.context.params[:, 0], drawn.scenes.target.params[:, 0]], dim=1)
    known = drawn.scenes.context.observation[:, :, 0, 0].expand(-1, draws, -1)
    values = torch.cat([known, drawn.observed], dim=2).flatten(0, 1)
    mean = three_clusters().posterior_mean(rows.repeat_interleave(draws, 0), values).unflatten(0, (scenes, draws))
    return float(((drawn.sampled - mean) @ open_axis(drawn)).square().mean().sqrt())


def test_what_context_and_target_leave_open_comes_out_as_its_mean(limited: DiffusionWithForwardModel) -> None:
    drawn = draw(limited, SEED)
    # The limit: as samples of the posterior they are wrong, for they vary too little along the open axis,
    assert not judge(drawn).passes
    sampled, exact = (signals @ open_axis(drawn) for signals in (drawn.sampled, drawn.exact))
    assert sampled.std(dim=1).mean() < 0.5 * exact.std(dim=1).mean()
    # though right along the axis that the target sees,
    assert compare_along_target(drawn).p_value >= ALPHA
    # and along the open one they are the mean.
    assert error_from_mean(drawn) < 0.5 * exact.std(dim=1).mean()


def test_without_the_novel_loss_not_even_the_mean_comes_out(limited: DiffusionWithForwardModel) -> None:
    without = draw(train(SEED, target_numbers=1, novel_weight=0.0, iterations=SHORT), SEED)
    assert error_from_mean(without) > 2 * error_from_mean(draw(limited, SEED))
