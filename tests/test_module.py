"""Training, validation, sampling and test of a problem in general, on one small enough to calculate by hand."""

import inspect
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import (
    ForwardModel,
    SignalDenoiser,
    check_batch,
    check_kind,
    check_observed,
    check_request,
)
from dfm_lightning.module import DenoisedBatch, DiffusionWithForwardModel
from dfm_lightning.observation_losses import context_error
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.tasks import GANInversion, InverseGraphics, MotionPrediction
from dfm_lightning.types import Batch, Level, LossTerm, Prediction, Request, Views, as_request


class Line(NamedTuple):
    """A signal: a straight line."""

    offset: Float[Tensor, "b"]
    slope: Float[Tensor, "b"]


class Points(ForwardModel):
    """The line's values at positions φ [b v], in two channels: the value, and twice it."""

    def forward(self, signal: Line, params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 2 1 1"]:
        value = signal.offset[:, None] + signal.slope[:, None] * params
        return torch.stack([value, 2 * value], dim=2)[..., None, None]


class LineDenoiser(SignalDenoiser):
    """Weighs context and noisy target; remembers the contexts it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.5, 0.25]))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.contexts: list[Tensor] = []

    def condition(self, context: Views, target_params: Float[Tensor, "b 1"]) -> Tensor:
        self.contexts.append(context.observation)
        return context.observation.flatten(1).sum(dim=1)

    def forward(self, noisy: Float[Tensor, "b 1 2 1 1"], level: Level, conditioning: Float[Tensor, "b"]) -> Line:
        mean = noisy.mean(dim=(1, 2, 3, 4))
        return Line(self.weights[0] * conditioning, self.weights[1] * mean * (1 - level / 1000))


POSITIONS = torch.linspace(-1, 1, 24).view(4, 6)
LINES = Line(torch.tensor([0.5, -0.3, 0.8, 0.1]), torch.tensor([1.0, 0.4, -0.6, -1.0]))


def batch(novel: int = 3, scenes: slice = slice(0, 4)) -> Batch:
    """Scenes with two context views, a target and some novel ones."""
    ends = {"context": (0, 2), "target": (2, 3), "novel": (3, 3 + novel)}
    views = [Views(Points()(LINES, POSITIONS[:, i:j])[scenes], POSITIONS[scenes, i:j]) for i, j in ends.values()]
    return Batch(*views, ["a", "b", "c", "d"][scenes], {})


def module(**settings: Any) -> DiffusionWithForwardModel:
    return DiffusionWithForwardModel(LineDenoiser(), Points(), **{"sampler": DDIM(3), **settings})


def denoised(signal: Line, of: Batch) -> DenoisedBatch:
    compared = Views(
        torch.cat([of.target.observation, of.novel.observation], dim=1),
        torch.cat([of.target.params, of.novel.params], dim=1),
    )
    return DenoisedBatch(
        of,
        torch.zeros(len(of.key), dtype=torch.long),
        None,
        signal,
        compared,
        Points().observe(signal, compared.params),
    )


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    torch.manual_seed(3)


# --- losses ---------------------------------------------------------------------------------------------------


def test_the_losses_are_mean_squared_errors_at_target_and_novel_parameters() -> None:
    wrong = Line(LINES.offset + 0.5, LINES.slope)  # by 0.5 in the first channel, by 1 in the second
    terms = module(target_weight=2.0, novel_weight=3.0).observation_losses(denoised(wrong, batch()))
    assert {name: term.weight for name, term in terms.items()} == {"target": 2.0, "novel": 3.0}
    assert terms["target"].value.item() == pytest.approx((0.5**2 + 1) / 2)
    assert terms["novel"].value.item() == pytest.approx((0.5**2 + 1) / 2)


def test_target_and_novel_errors_are_kept_apart() -> None:
    of = batch()
    # Right at the target's position, wrong elsewhere.
    tilted = Line(LINES.offset - of.target.params[:, 0], LINES.slope + 1)
    terms = module().observation_losses(denoised(tilted, of))
    assert terms["target"].value.item() == pytest.approx(0, abs=1e-12)
    shift = of.novel.params - of.target.params
    assert terms["novel"].value.item() == pytest.approx((shift.square().mean() * 2.5).item())


def test_without_novel_views_there_is_no_novel_loss() -> None:
    assert set(module().losses(batch(novel=0))) == {"target"}


def test_the_context_can_be_compared_with_at_its_own_parameters() -> None:
    of = batch(novel=0)
    model = module(context_weight=2.0)
    torch.manual_seed(0)
    found = model.losses(of)
    torch.manual_seed(0)
    parts = model.denoise_noised(of)
    expected = (Points()(parts.signal, of.context.params) - of.context.observation).square().mean()
    assert found["context"].weight == 2.0
    assert found["context"].value.item() == pytest.approx(expected.item())
    # Of a context that is dropped nothing is known.
    assert "context" not in model.losses(of, context_dropped=True)
    assert "context" not in module().losses(of)


def test_a_context_that_is_no_observation_of_the_forward_model_is_refused() -> None:
    of = batch()
    other = of._replace(context=of.context._replace(observation=of.context.observation[:, :, :1]))
    with pytest.raises(UserError, match=r"context views"):
        context_error(Points(), denoised(LINES, other))


def test_the_true_signal_has_no_loss() -> None:
    terms = module().observation_losses(denoised(LINES, batch()))
    assert all(term.value == 0 for term in terms.values())


def test_only_the_part_that_the_forward_model_chooses_is_compared() -> None:
    class FirstChannel(Points):
        def forward(self, signal: Line, params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 1 1 1"]:
            return super().forward(signal, params)[:, :, :1]

        def subsample(self, views: Views) -> Views:
            return views._replace(observation=views.observation[:, :, :1])

    parts = DiffusionWithForwardModel(LineDenoiser(), FirstChannel()).denoise_noised(batch())
    assert parts.compared.observation.shape == parts.observed.observation.shape == (4, 4, 1, 1, 1)


class WithRegulariser(DiffusionWithForwardModel):
    def regularisers(self, denoised: DenoisedBatch) -> dict[str, LossTerm]:
        return {"steepness": LossTerm(denoised.signal.slope.square().mean(), 0.5)}


class Scenes(LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader([batch()], batch_size=None)

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([as_request(batch())], batch_size=None)


def trainer(**settings: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **settings)  # type: ignore[arg-type]


def test_the_total_is_the_weighted_sum_of_all_terms() -> None:
    model = WithRegulariser(LineDenoiser(), Points(), target_weight=2.0, novel_weight=3.0)
    run = trainer(max_steps=1, num_sanity_val_steps=0, limit_val_batches=0)
    run.fit(model, Scenes())
    logged = {name: value.item() for name, value in run.logged_metrics.items()}
    assert set(logged) == {"train/loss", "train/target", "train/novel", "train/steepness"}
    expected = 2 * logged["train/target"] + 3 * logged["train/novel"] + 0.5 * logged["train/steepness"]
    assert logged["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert logged["train/steepness"] > 0


def test_training_moves_what_is_to_be_trained() -> None:
    model = module(optimizer=AdamWithWarmup(0.01, warmup_steps=0))
    before = model.denoiser.weights.detach().clone()
    trainer(max_steps=3, num_sanity_val_steps=0, limit_val_batches=0).fit(model, Scenes())
    assert not torch.equal(model.denoiser.weights, before)
    assert torch.equal(model.denoiser.frozen, torch.zeros(1))


# --- context dropout, validation ------------------------------------------------------------------------------


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (0.25, 75), (1.0, 300)])
def test_context_is_dropped_with_its_probability(probability: float, expected: int) -> None:
    model = module(context_dropout=probability)
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    for index in range(300):
        model.training_step(batch(), index)
    dropped = sum(1 for context in model.denoiser.contexts if not context.any())  # type: ignore[union-attr]
    assert dropped == pytest.approx(expected, abs=4 * (300 * probability * (1 - probability)) ** 0.5)


def test_without_dropout_no_random_number_is_spent_on_it() -> None:
    state = torch.get_rng_state()
    assert not module().drops_context()
    assert torch.equal(state, torch.get_rng_state())


def test_validation_is_the_same_every_time_and_leaves_training_alone() -> None:
    model = module(context_dropout=1.0)
    first, second = (trainer().validate(model, Scenes(), verbose=False) for _ in range(2))
    assert first == second
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    state = torch.get_rng_state()
    model.validation_step(batch(), 0)
    assert torch.equal(state, torch.get_rng_state())
    assert all(context.any() for context in model.denoiser.contexts)  # type: ignore[union-attr]


def logged_in_validation(of: Batch) -> dict[str, float]:
    model, logged = module(), {}
    model.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    model.validation_step(of, 0)
    return {name: float(value) for name, value in logged.items()}


def test_validation_does_not_depend_on_how_scenes_are_put_together() -> None:
    together = logged_in_validation(batch())
    alone = [logged_in_validation(batch(scenes=slice(row, row + 1))) for row in range(4)]
    for name, value in together.items():
        assert value == pytest.approx(sum(scene[name] for scene in alone) / 4)
    assert {"val/loss", "val/target", "val/novel"} == set(together)


def test_each_validation_scene_has_levels_and_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = batch(scenes=slice(0, 1))
    losses = [logged_in_validation(scene._replace(key=[key]))["val/target"] for key in ("a", "b", "a")]
    assert losses[0] == losses[2] != losses[1]
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    assert logged_in_validation(scene)["val/target"] != losses[0]


def test_a_training_step_draws_by_seed_process_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()

    def drawn(rank: int, number: int) -> tuple[float, ...]:
        loop = SimpleNamespace(total_batch_idx=number)
        model._trainer = SimpleNamespace(global_rank=rank, fit_loop=loop)  # type: ignore[assignment]
        torch.rand(3)  # whatever was drawn before
        model.on_train_batch_start(batch(), 0)
        return tuple(torch.rand(4).tolist())

    first = drawn(0, 7)
    assert drawn(0, 7) == first
    others = [drawn(1, 7), drawn(2, 7), drawn(0, 8), drawn(7, 0)]
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    others.append(drawn(0, 7))
    assert len({first, *others}) == 6


# --- sampling -------------------------------------------------------------------------------------------------


def names(keys: list[str], draws: list[int]) -> list[tuple[str | int, ...]]:
    return [(key, draw) for key in keys for draw in draws]


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
    assert len(model.denoiser.contexts) == 1  # type: ignore[arg-type]


def test_without_settings_sampling_is_unguided_and_all_errors_weigh_alike() -> None:
    model = DiffusionWithForwardModel(LineDenoiser(), Points())
    model.sample(batch().context, batch().target.params, names(list("abcd"), [0]), (2, 1, 1))
    # Guidance would take twice the scenes: with their context and without.
    assert [len(context) for context in model.denoiser.contexts] == [4]  # type: ignore[union-attr]
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
    assert len(model.denoiser.contexts) == 2  # type: ignore[arg-type]


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
    drawn = {key: [] for key in "abcd"}  # type: ignore[var-annotated]
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


# --- what the user may get wrong ------------------------------------------------------------------------------


def without_views(views: Views) -> Views:
    return Views(views.observation[:, 0], views.params)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            batch()._replace(context=without_views(batch().context)),
            r"context.observation has shape \(4, 2, 1, 1\);",
        ),
        (batch()._replace(target=batch().novel), r"target\.observation has 3"),
        (
            batch()._replace(key=["a"]),
            r"context.observation has shape \(4, 2, 2, 1, 1\), but the batch has 1 keys",
        ),
        (
            batch()._replace(novel=Views(batch().novel.observation, POSITIONS[:, 0])),
            r"novel.params has shape \(4,\); expected it to begin with 4 scenes and 3 views",
        ),
        (
            batch()._replace(novel=Views(batch().novel.observation, Line(POSITIONS[:, :3], POSITIONS))),
            r"novel.params.slope has shape \(4, 6\)",
        ),
        (
            batch()._replace(target=Views(batch().target.observation.double(), batch().target.params)),
            r"target.observation is float64; expected float32, images in \[-1, 1\]: convert it with \.float\(\)",
        ),
        (
            batch()._replace(context=Views(batch().context.observation.byte(), batch().context.params)),
            r"context.observation is uint8; expected float32",
        ),
    ],
)
def test_a_wrong_batch_is_named(wrong: Batch, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_batch(wrong)


def test_right_batches_and_requests_pass() -> None:
    for novel in (0, 3):
        check_kind(batch(novel), Batch)
        check_batch(batch(novel))
        check_kind(as_request(batch(novel)), Request)
        check_request(as_request(batch(novel)))


@pytest.mark.parametrize(
    ("wrong", "expected", "message"),
    [
        (batch()._asdict(), Batch, "a data loader of fit, validate or test must give a Batch, but gave a dict"),
        (batch(), Request, "predict_dataloader must give a Request, but gave a Batch"),
        (batch()._replace(key=torch.arange(4)), Batch, "the key of a scene is a string, .* it is a Tensor"),
    ],
)
def test_what_is_no_batch_is_refused(wrong: Any, expected: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_kind(wrong, expected)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions_are_no_mistake(precision: Any) -> None:
    torch.manual_seed(0)
    loader = DataLoader([batch()], batch_size=None)
    trainer = Trainer(
        accelerator="cpu", max_steps=1, precision=precision, logger=False, enable_checkpointing=False
    )
    trainer.fit(module(), loader, loader)
    assert trainer.callback_metrics["val/loss"].isfinite()


def test_a_request_without_parameters_to_observe_under_is_named() -> None:
    with pytest.raises(UserError, match=r"params.*\(4, 0\)"):
        check_request(Request(batch().context, POSITIONS[:, :0], batch().key))


def test_an_observation_of_another_shape_is_named_and_not_broadcast() -> None:
    with pytest.raises(UserError, match=r"\(4, 4, 1, 1, 1\)"):
        check_observed(torch.zeros(4, 4, 1, 1, 1), torch.zeros(4, 4, 2, 1, 1))


def test_a_request_of_an_item_is_the_request_of_its_batch() -> None:
    item = Batch(*(Views(v.observation[0], v.params[0]) for v in batch()[:3]), "a", {})
    assert torch.equal(as_request(item).params, as_request(batch()).params[0])


class Wrong(Points):
    """Observes in a way that cannot be learnt from."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, signal: Line, params: Float[Tensor, "b v"]) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                return super().forward(signal, params)
        seen = super().forward(signal, params)
        if self.how == "detached":
            return seen.detach()
        if self.how == "integer":
            return seen.round().int()
        return seen / torch.zeros_like(seen)


class DetachedSignal(LineDenoiser):
    """Forgets its gradient."""

    def forward(self, noisy: Tensor, level: Level, conditioning: Tensor) -> Line:
        return Line(*(part.detach() for part in super().forward(noisy, level, conditioning)))


@pytest.mark.parametrize(
    ("denoiser", "forward_model", "said"),
    [
        (LineDenoiser, Wrong("detached"), "observation has no gradient"),
        (LineDenoiser, Wrong("no_grad"), "observation has no gradient"),
        (LineDenoiser, Wrong("integer"), "observations of int32"),
        (LineDenoiser, Wrong("nan"), "forward model.* not a number, though the signal is finite"),
        (DetachedSignal, Points(), "signal has no gradient"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_first_step(
    denoiser: type[LineDenoiser], forward_model: ForwardModel, said: str
) -> None:
    model = DiffusionWithForwardModel(denoiser(), forward_model)
    with pytest.raises(UserError, match=said):
        model.losses(batch())
    with torch.no_grad():  # as in validation, which needs no gradient
        if forward_model.__class__ is Points:
            model.losses(batch())


def test_a_signal_that_is_not_finite_is_the_denoisers_fault() -> None:
    model = module()
    with torch.no_grad():
        model.denoiser.weights[1] = float("nan")
    with pytest.raises(UserError, match=r"denoiser's signal .*signal.slope"):
        model.losses(batch())


def test_a_model_without_anything_to_train_is_refused() -> None:
    model = module()
    model.requires_grad_(False)
    with pytest.raises(UserError, match="requires_grad false"):
        model.configure_optimizers()
    model.losses(batch())  # which can be computed all the same
    model.denoiser = nn.Identity()
    with pytest.raises(UserError, match="parameter"):
        model.configure_optimizers()


class SmallTargets(Points):
    """Knows that its targets have two channels, whatever the context has."""

    def target_size(self, context: Views) -> tuple[int, ...]:
        return (2, 1, 1)


def test_targets_of_another_size_than_would_be_sampled_are_refused_at_the_first_step() -> None:
    plain = batch()
    context = plain.context._replace(observation=plain.context.observation.repeat(1, 1, 3, 1, 1))
    other = plain._replace(context=context)
    with pytest.raises(UserError, match=r"target_size.*\(6, 1, 1\).*\(2, 1, 1\)"):
        module().losses(other)
    DiffusionWithForwardModel(LineDenoiser(), SmallTargets()).losses(other)
