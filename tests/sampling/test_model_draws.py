"""Sampling and test of a problem in general, on one small enough to calculate by hand."""

import inspect

import pytest
import torch
from line_problem import (
    LINES,
    Line,
    LineDenoiser,
    Points,
    Scenes,
    WithRegulariser,
    batch,
    denoised,
    module,
    names,
    trainer,
)
from torch import Tensor

from dfm_lightning.diffusion import DDIM
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.tasks import GANInversion, InverseGraphics, MotionPrediction
from dfm_lightning.types import Batch, Prediction, Request, Views, as_request

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_draw_depends_on_its_name_and_scene_alone(eta: float) -> None:
    model, all_scenes, second = module(sampler=DDIM(4, eta)), batch(), batch(scenes=slice(1, 2))
    keys = ["a", "b", "c", "d"]
    together = model.sample(all_scenes.context, all_scenes.target.params, names(keys, [0, 1, 2]), (2, 1, 1))
    alone = model.sample(second.context, second.target.params, names(["b"], [1]), (2, 1, 1))
    row = 3 * 1 + 1
    torch.testing.assert_close(alone.signal.slope, together.signal.slope[row : row + 1])
    torch.testing.assert_close(alone.observation, together.observation[row : row + 1])
    assert len(together.observation.flatten(1)[:, 0].unique()) == 12


def test_another_seed_gives_other_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw() -> Tensor:
        return module().sample(batch().context, batch().target.params, names(list("abcd"), [0]), (2, 1, 1))[1]

    first = draw()
    assert torch.equal(draw(), first)
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    assert not (draw() == first).any()


def test_the_sample_is_an_observation_of_its_signal() -> None:
    drawn = module().sample(batch().context, batch().target.params, names(list("abcd"), [0]), (2, 1, 1))
    assert torch.equal(drawn.observation, Points()(drawn.signal, batch().target.params))


@pytest.mark.parametrize("steps", [1, 7])
def test_context_is_digested_once_whatever_the_number_of_steps(steps: int) -> None:
    model = module(sampler=DDIM(steps))
    model.sample(batch().context, batch().target.params, names(list("abcd"), [0]), (2, 1, 1))
    assert len(model.denoiser.contexts) == 1


def test_without_settings_sampling_is_unguided_and_all_errors_weigh_alike() -> None:
    model = DiffusionWithForwardModel(LineDenoiser(), Points())
    model.sample(batch().context, batch().target.params, names(list("abcd"), [0]), (2, 1, 1))
    # Guidance would take twice the scenes: with their context and without.
    assert [len(context) for context in model.denoiser.contexts] == [4]
    of_errors = model.observation_losses(denoised(Line(LINES.slope + 1, LINES.offset), batch()))
    assert {term.weight for term in of_errors.values()} == {1.0}


@pytest.mark.parametrize("task", [InverseGraphics, MotionPrediction, GANInversion])
def test_what_tasks_share_has_the_same_defaults_in_all_of_them(task: type) -> None:
    every = inspect.signature(DiffusionWithForwardModel).parameters
    for name, parameter in inspect.signature(task).parameters.items():
        if name in every and name != "samples":  # as many as are worth looking at
            assert parameter.default == every[name].default, name


def test_the_class_of_a_model_is_among_its_settings() -> None:
    other = WithRegulariser(LineDenoiser(), Points())
    assert module().settings()["model"] == "DiffusionWithForwardModel"
    assert other.settings()["model"].endswith("WithRegulariser")


def test_predictions_are_draws_observed_under_all_parameters_of_the_request() -> None:
    model = module(samples=2)
    predictions = list(model.predict_step(as_request(batch()), 0))
    assert [(p.key, p.sample) for p in predictions] == [(key, draw) for key in "abcd" for draw in range(2)]
    third = predictions[5]
    scene = batch(scenes=slice(2, 3))
    drawn = model.sample(scene.context, scene.target.params, [("predict", "c", 1)], (2, 1, 1))
    torch.testing.assert_close(third.signal, drawn.signal)
    everywhere = torch.cat([scene.target.params, scene.novel.params], dim=1)
    torch.testing.assert_close(third.observation, Points()(drawn.signal, everywhere)[0])
    assert torch.equal(third.params, everywhere)


def test_what_is_finished_is_not_drawn() -> None:
    model = module(samples=3)
    model.plan.leave_out(lambda key, sample: key != "b" or sample == 1)
    assert [(p.key, p.sample) for p in model.predict_step(as_request(batch()), 0)] == [("b", 0), ("b", 2)]
    assert len(model.denoiser.contexts) == 2


def test_a_target_may_have_another_shape_than_the_context() -> None:
    class Doubled(Points):
        def target_size(self, context: Views) -> tuple[int, ...]:
            return (2, *context.observation.shape[3:])

    of = batch()
    narrow = of.context._replace(observation=of.context.observation[:, :, :1])
    model = DiffusionWithForwardModel(LineDenoiser(), Doubled(), sampler=DDIM(2), samples=1)
    predictions = list(model.predict_step(Request(narrow, of.target.params, of.key), 0))
    assert predictions[0].observation.shape == (1, 2, 1, 1)


# --- test -----------------------------------------------------------------------------------------------------


def test_the_scores_of_test_are_those_of_what_predict_draws() -> None:
    model = module(samples=3)
    (scores,) = trainer().test(model, Scenes(), verbose=False)
    drawn = {key: [] for key in "abcd"}
    for prediction in model.predictions(as_request(batch())):
        drawn[prediction.key].append(prediction.observation.flatten())
    truth = torch.cat([batch().target.observation, batch().novel.observation], dim=1).flatten(1)
    means, bests, centres, energies = [], [], [], []
    for true, draws in zip(truth, drawn.values(), strict=True):
        errors = [((draw - true) ** 2).mean().sqrt().item() for draw in draws]
        means.append(sum(errors) / 3)
        bests.append(min(errors))
        centres.append(((sum(draws) / 3 - true) ** 2).mean().sqrt().item())
        between = [((draws[i] - draws[j]) ** 2).mean().sqrt().item() for i, j in ((0, 1), (0, 2), (1, 2))]
        energies.append(means[-1] - 0.5 * sum(between) / 3)
    expected = {"rmse_mean": means, "rmse_best": bests, "rmse_of_mean": centres, "energy_score": energies}
    for name, values in expected.items():
        assert scores[f"test/{name}"] == pytest.approx(sum(values) / 4, rel=1e-5)
    stock = {"spread", "coverage", "coverage_expected", "rank", "consistency"}
    assert set(scores) == {f"test/{name}" for name in stock | set(expected)}


def test_draws_are_compared_with_the_context_and_by_measures_of_ones_own() -> None:
    class Own(DiffusionWithForwardModel):
        def score(self, draws: list[Prediction], scene: Batch) -> dict[str, float]:
            assert [draw.key for draw in draws] == scene.key * 2
            return {"slope": sum(draw.signal.slope.item() for draw in draws) / 2}

    class Noisy(Points):
        def noise_deviation(self, params: Tensor) -> Tensor:
            return torch.full((*params.shape, 1, 1, 1), 0.25)

    model = Own(LineDenoiser(), Noisy(), sampler=DDIM(3), samples=2)
    (scores,) = trainer().test(model, Scenes(), verbose=False)
    of, errors, slopes = batch(), [], []
    for prediction in model.predictions(as_request(of)):
        row = slice(*(of.key.index(prediction.key) + end for end in (0, 1)))
        difference = Points()(prediction.signal, of.context.params[row]) - of.context.observation[row]
        errors.append(difference.square().mean().sqrt().item())
        slopes.append(prediction.signal.slope.item())
    assert scores["test/consistency"] == pytest.approx(sum(errors) / 8, rel=1e-5)
    assert scores["test/consistency_expected"] == pytest.approx(0.25)
    assert scores["test/slope"] == pytest.approx(sum(slopes) / 8, rel=1e-5)
    assert "test/rmse_mean" in scores


def test_a_context_that_the_forward_model_cannot_observe_is_no_failure() -> None:
    class Particular(Points):
        def forward(self, signal: Line, params: Tensor) -> Tensor:
            if params.shape[1] == 2:
                raise KeyError("no such parameters")
            return super().forward(signal, params)

    with pytest.warns(UserWarning, match="no such parameters"):
        (scores,) = trainer().test(
            DiffusionWithForwardModel(LineDenoiser(), Particular(), sampler=DDIM(2)), Scenes(), verbose=False
        )
    assert "test/consistency" not in scores
    assert "test/energy_score" in scores


def test_a_single_draw_is_scored_by_its_error() -> None:
    (scores,) = trainer().test(module(samples=1), Scenes(), verbose=False)
    assert scores["test/energy_score"] == pytest.approx(scores["test/rmse_mean"])
