"""Training and validation of a problem in general, on one small enough to calculate by hand."""

from types import SimpleNamespace

import pytest
import torch
from jaxtyping import Float
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
    trainer,
)
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.observation_losses import context_error
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.types import Batch, Views

pytestmark = pytest.mark.usefixtures("seeded")


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
    model.log_dict = lambda *_, **__: None
    for index in range(300):
        model.training_step(batch(), index)
    dropped = sum(1 for context in model.denoiser.contexts if not context.any())
    assert dropped == pytest.approx(expected, abs=4 * (300 * probability * (1 - probability)) ** 0.5)


def test_without_dropout_no_random_number_is_spent_on_it() -> None:
    state = torch.get_rng_state()
    assert not module().drops_context()
    assert torch.equal(state, torch.get_rng_state())


def test_validation_is_the_same_every_time_and_leaves_training_alone() -> None:
    model = module(context_dropout=1.0)
    first, second = (trainer().validate(model, Scenes(), verbose=False) for _ in range(2))
    assert first == second
    model.log_dict = lambda *_, **__: None
    state = torch.get_rng_state()
    model.validation_step(batch(), 0)
    assert torch.equal(state, torch.get_rng_state())
    assert all(context.any() for context in model.denoiser.contexts)


def logged_in_validation(of: Batch) -> dict[str, float]:
    model, logged = module(), {}
    model.log_dict = lambda values, **_: logged.update(values)
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
        model._trainer = SimpleNamespace(global_rank=rank, fit_loop=loop)
        torch.rand(3)  # whatever was drawn before
        model.on_train_batch_start(batch(), 0)
        return tuple(torch.rand(4).tolist())

    first = drawn(0, 7)
    assert drawn(0, 7) == first
    others = [drawn(1, 7), drawn(2, 7), drawn(0, 8), drawn(7, 0)]
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    others.append(drawn(0, 7))
    assert len({first, *others}) == 6
