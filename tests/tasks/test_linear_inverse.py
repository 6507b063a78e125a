"""Linear inverse problems: the loss, the uses of one model, zero-shot solvers on it, what is refused."""

import math
from typing import Any

import pytest
import torch

from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.diffusion import Heun, Karras, VarianceExploding
from dfm_lightning.diffusion.zero_shot import DDNM, DDRM, DPS, PiGDM
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    LinearMeasurements,
    Matrices,
    Nothing,
    PatchMasks,
    StridedMotionBlurs,
)
from dfm_lightning.randomness import named_noise
from dfm_lightning.tasks import LinearInverseProblem, LinearSolution
from dfm_lightning.types import Batch, Request, Views, as_request

KIND = {
    "patch": 2, "depths": (1, 1), "widths": (48, 96), "windows": (3, 0), "joint": (True, True), "head_width": 16,
    "mapping_width": 32,
}  # fmt: skip


def model(**options: Any) -> LinearInverseProblem:
    kinds = set(OperatorDenoiser.__init__.__annotations__)
    torch.manual_seed(0)
    denoiser = OperatorDenoiser(**{**KIND, **{k: v for k, v in options.items() if k in kinds}})
    for parameter in denoiser.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    rest = {name: value for name, value in options.items() if name not in kinds}
    defaults: dict[str, Any] = {"sampler": Heun(3, spacing=Karras()), "samples": 3, "draw_batch": 3}
    return LinearInverseProblem(denoiser, **{**defaults, **rest})


def problems(law: Any = None, target_law: Any = None, count: int = 2, size: int = 8) -> Batch:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    maker = LinearMeasurements(law or Matrices((4, 9)), 0.05, target_law)
    keys = [f"image{number}" for number in range(count)]
    batch = maker.problems(images, torch.zeros(count, dtype=torch.long), keys, torch.Generator().manual_seed(2))
    return batch._replace(truth={"image": images})


def test_the_loss_is_edms_with_its_learned_weighting() -> None:
    task = model()
    torch.manual_seed(5)
    losses = task.losses(problems())
    torch.manual_seed(5)
    denoised = task.denoise_noised(problems())
    t = task.denoiser.noise_of(denoised.level)
    error = (denoised.signal - problems().target.observation[:, 0]).square().flatten(1).mean(1)
    u = task.denoiser.log_variance(t.log() / 4)
    expected = ((t**2 + 0.25) / (0.5 * t) ** 2 / u.exp() * error + u).mean()
    assert losses["target"].value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_untrained_the_loss_is_one_where_data_have_the_assumed_deviation() -> None:
    """EDM's weights: the initial loss is the same at every level, the mean's too."""
    denoiser = OperatorDenoiser(**KIND, directions=2)
    task = LinearInverseProblem(denoiser, direction_weight=0.1)
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    keys = [str(number) for number in range(64)]
    batch = LinearMeasurements(PatchMasks()).problems(
        images, torch.zeros(64, dtype=torch.long), keys, torch.Generator().manual_seed(2)
    )
    torch.manual_seed(0)
    losses = task.losses(batch)
    assert losses["target"].value.item() == pytest.approx(1.0, abs=0.05)
    assert losses["mean"].value.item() == pytest.approx(1.0, abs=0.05)


def test_all_uses_come_from_one_model() -> None:
    task = model(directions=2)
    batch = problems()
    predictions = list(task.predictions(as_request(batch)))
    assert [(p.key, p.sample) for p in predictions] == [(k, s) for k in batch.key for s in range(3)]
    solution = predictions[0].signal
    assert isinstance(solution, LinearSolution)
    assert solution.image.shape == (1, 3, 8, 8)
    assert solution.directions.shape == (2, 3, 8, 8)
    flat = solution.directions.flatten(1)
    assert (flat[0] @ flat[1]).abs() < 1e-4 * flat.norm(dim=1).prod()
    assert torch.equal(solution.mean, predictions[1].signal.mean)
    assert not torch.equal(solution.image, predictions[1].signal.image)
    tested = task.test_step(batch, 0)
    scores = tested["scores"]
    assert set(scores) == set(batch.key)
    assert set(tested["groups"].values()) == {type(batch.context.params.operator).__name__}
    assert {"psnr_mean", "psnr_of_mean", "consistency", "coverage", "spread"} <= set(scores["image0"])
    average = sum(p.signal.image[0] for p in predictions[:3]) / 3
    error = ((average.clamp(-1, 1) - batch.truth["image"][0]) / 2).square().mean()
    assert scores["image0"]["psnr_of_average"] == pytest.approx(-10 * error.log10().item(), abs=1e-3)


def test_the_mean_follows_the_flow_through_its_levels_for_each_draw() -> None:
    """By hand, for states x + t z: x' = D + t'/t (x − D), and the last level's estimates averaged."""
    batch, levels = problems(count=1), [80.0, 7.0, 0.9]
    task = model(mean_noises=levels[1:], mean_draws=2).eval()
    conditioning = task.denoiser.condition(batch.context, batch.target.params)
    found = []
    with torch.no_grad():
        for name in (("mean", "image0"), ("mean", "image0", 1)):
            state = levels[0] * named_noise([name], (1, 3, 8, 8), torch.device("cpu"))[:, 0]
            for number, t in enumerate(levels):
                estimate = task.denoiser(state[:, None] / (t**2 + 0.25) ** 0.5, level_of(t), conditioning)
                if number + 1 < len(levels):
                    state = estimate + levels[number + 1] / t * (state - estimate)
            found.append(estimate)
    mean, _ = task.posterior("image0", batch.context, batch.target.params)
    torch.testing.assert_close(mean, (found[0] + found[1]) / 2, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    first, directions = model(directions=2).eval().posterior("image0", batch.context, batch.target.params)
    again = model(directions=2, mean_draws=2).eval().posterior("image0", batch.context, batch.target.params)
    torch.testing.assert_close(again[1], directions)
    assert not torch.allclose(again[0], first, atol=1e-3)


def level_of(t: float) -> torch.Tensor:
    return torch.tensor([VarianceExploding().level_at(-math.log(t))])


@pytest.mark.parametrize(("noises", "message"), [((5.0, 5.0), "must fall"), ((5.0, 0.0), "mean_noises")])
def test_levels_of_the_mean_fall(noises: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(mean_noises=noises)


def test_unconditional_samples_do_not_see_the_measurement() -> None:
    first, second = problems(Matrices((4, 9))), problems(PatchMasks(0.5))
    for unconditional in (False, True):
        task = model(unconditional=unconditional)
        found = [next(iter(task.predictions(as_request(batch)))).signal.image for batch in (first, second)]
        assert torch.equal(*found) == unconditional


@pytest.mark.parametrize("solver", [DDNM(4, plus=False), DPS(4)], ids=lambda s: type(s).__name__)
def test_zero_shot_solvers_run_on_the_model_without_measurement(solver: Any) -> None:
    task = model(solver=solver, joint=(), backprojection=False)
    batch = problems()
    task.check_conditioning()
    images = [prediction.signal.image for prediction in task.predictions(as_request(batch))]
    if isinstance(solver, DDNM):
        residual = batch.context.params.operator.rows[0, 0].flatten(1) @ images[0].flatten()
        assert residual == pytest.approx(batch.context.observation[0, 0].flatten(), abs=1e-3)
    # One draw at a time gives the same images.
    task.draw_batch = 1
    alone = [prediction.signal.image for prediction in task.predictions(as_request(batch))]
    assert torch.cat(alone) == pytest.approx(torch.cat(images), abs=1e-3)


@pytest.mark.parametrize("solver", [DDRM(3), PiGDM(3)], ids=lambda s: type(s).__name__)
def test_operators_that_compute_in_double_precision_are_no_hindrance(solver: Any) -> None:
    task = model(solver=solver)
    batch = problems(StridedMotionBlurs((2,), approximate=False))
    image = next(iter(task.predictions(as_request(batch)))).signal.image
    assert image.dtype == torch.float32


def test_targets_that_are_measurements_teach_the_seen_part_alone() -> None:
    """Operator-aware DFM never sees a clean image: its targets do not change with what no operator sees."""
    batch = problems(Matrices((4, 9)), Matrices((4, 9)))
    image = batch.truth["image"]
    target = batch.target
    assert target.observation[:, 0] == pytest.approx(
        target.params.operator.__class__(*(_flat(part) for part in target.params.operator)).apply(image), abs=0.5
    )
    assert not torch.allclose(target.observation[:, 0], image, atol=0.1)
    task = model(targets="measurements")
    task.losses(batch)["target"].value.backward()
    gradients = [p.grad for p in task.denoiser.network.patch_in.parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in gradients)
    drawn = list(task.predictions(as_request(problems())))
    assert torch.isfinite(drawn[0].signal.image).all()


def _flat(operator: Any) -> Any:
    from dfm_lightning.forward_models.linear import one_a_view

    return one_a_view(operator)


@pytest.mark.parametrize("direction_loss", ["invfusion", "nppc"])
def test_directions_are_trained_by_a_head_of_their_own(direction_loss: Any) -> None:
    task = model(directions=2, direction_weight=1.0, direction_loss=direction_loss)
    losses = task.losses(problems())
    assert {"target", "mean", "directions", "lengths"} == set(losses)
    losses["directions"].value.backward()
    head = task.denoiser.direction_head
    assert head is not None
    assert head.linear.weight.grad is not None
    assert head.linear.weight.grad.abs().max() > 0
    with pytest.raises(UserError, match="direction_weight"):
        model(direction_weight=1.0)


def test_a_model_without_measurements_is_refused_where_they_are_to_be_used() -> None:
    with pytest.raises(UserError, match=r"model.solver.*model.unconditional"):
        model(joint=(), backprojection=False).check_conditioning()
    model(joint=(), backprojection=False, unconditional=True).check_conditioning()
    model(joint=()).check_conditioning()


def test_measurements_that_are_none_are_refused_with_and_without_solver() -> None:
    batch = problems()
    good, params = batch.context, batch.context.params
    small = problems(size=6).context
    narrow = good._replace(observation=good.observation[:, :, :-1])
    cases = {
        r"\(NaN or infinity\)": good._replace(observation=torch.full_like(good.observation, torch.nan)),
        "empty": good._replace(observation=good.observation[:, :, :0]),
        r"\(1, 8, 1, 1\).*\(1, 9, 1, 1\)": narrow,
        "σ_y.*-0.1": good._replace(params=params._replace(noise=torch.full_like(params.noise, -0.1))),
        r"\(3, 6, 6\).*multiples of 4": small,
    }
    for solver in (None, DDNM(2, plus=False)):
        task = model(solver=solver)
        for message, context in cases.items():
            with pytest.raises(UserError, match=message) as caught:
                list(task.predictions(Request(context, batch.target.params, batch.key)))
            assert "\n" not in str(caught.value)
    # What was not measured is not looked at.
    absent = params._replace(noise=torch.full_like(params.noise, torch.inf))
    nothing = Views(torch.full_like(good.observation, torch.nan), absent)
    drawn = next(iter(model().predictions(Request(nothing, batch.target.params, batch.key))))
    assert torch.isfinite(drawn.signal.image).all()


def test_nothing_measured_trains_the_unconditional_model() -> None:
    task = model()
    assert torch.isfinite(task.losses(problems(Nothing()))["target"].value)
