"""What every sampler must keep to, whatever it computes (dfm_lightning/diffusion/samplers/base.py)."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning import diffusion
from dfm_lightning.diffusion import (
    DDIM,
    DEIS,
    GHVB,
    PLMS,
    AlignYourSteps,
    CosineProcess,
    DCSolver,
    DPMSolver,
    DPMSolverSDE,
    DPMSolverSinglestep,
    Estimate,
    Even,
    GivenLevels,
    GuidanceSpace,
    HeavyBall,
    Heun,
    Karras,
    Leading,
    LogSNR,
    MultistepSampler,
    NoiseProcess,
    Quadratic,
    Sampler,
    Spacing,
    TimeShift,
    Trailing,
    UniPC,
    VarianceExploding,
    VariancePreserving,
)
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, Views

Make = Callable[..., Sampler]


def part(kind: type[Sampler], **fixed: Any) -> Make:
    return lambda steps, **settings: kind(steps, **fixed, **settings)


def dc_solver(steps: int, **settings: Any) -> Sampler:
    """One whose orders and compensations differ from step to step."""
    inner = max(steps - 2, 0)
    orders, compensation = [1, 3, 2, 3, 2] * 10, [0.9, 1.1, 1.0, 0.95, 0.8] * 10
    return DCSolver(steps, orders[:inner], compensation[:inner], **settings)


def time_shift(steps: int, temperature: float = 1.0, **settings: Any) -> Sampler:
    """One that moves levels wherever it can."""
    if temperature != 1:
        pytest.skip("levels are known by the variance: refused")
    return TimeShift(DPMSolver(steps, **settings), window=30, cutoff=0)


SAMPLERS: dict[str, Make] = {
    "ddim": part(DDIM),
    "ddpm": part(DDIM, eta=1.0),
    "2m": part(DPMSolver),
    "2m integral": part(DPMSolver, second_order="integral"),
    "3m": part(DPMSolver, order=3),
    "2s": part(DPMSolverSinglestep),
    "sde 2m": part(DPMSolverSDE),
    "sde 3m": part(DPMSolverSDE, order=3),
    "unipc 2": part(UniPC),
    "unipc 3": part(UniPC, order=3),
    "unipc bh1": part(UniPC, normaliser="bh1"),
    "unipc without corrector": part(UniPC, corrector=False),
    "dc solver": lambda steps, **settings: dc_solver(steps, **settings),
    "deis 2": part(DEIS),
    "deis 3": part(DEIS, order=3),
    "deis 2 rho": part(DEIS, polynomial_in="rho"),
    "deis 3 rho": part(DEIS, order=3, polynomial_in="rho"),
    "ipndm": part(PLMS),
    "plms": part(PLMS, warm_up="heun"),
    "pndm": part(PLMS, warm_up="runge_kutta"),
    "ghvb": part(GHVB),
    "heavy ball": part(HeavyBall),
    "heun": part(Heun),
    "heun lambda": part(Heun, integrates="lambda"),
    "time shift": time_shift,
}
STOCHASTIC = ("ddpm", "sde 2m", "sde 3m")
SPACINGS: list[Spacing] = [
    Trailing(),
    Trailing(clipped=True),
    Leading(),
    Even(),
    Quadratic(),
    LogSNR(),
    Karras(),
    AlignYourSteps(),
]
every_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS.keys())


class Curve(NamedTuple):
    """A signal of two parts."""

    height: Float[Tensor, "b"]
    slope: Float[Tensor, "b"]


class Points(ForwardModel):
    """The sine of a line at positions φ, an observation in [−1, 1] that is not linear in the signal."""

    def forward(self, signal: Curve, params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 1 1 1"]:
        return (signal.height[:, None] + signal.slope[:, None] * params).sin()[..., None, None, None]


class CurveDenoiser(SignalDenoiser):
    """A function of everything it is given; counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.calls = 0

    def condition(self, context: Views, target_params: Float[Tensor, "b 1"]) -> Tensor:
        return context.observation.flatten(1).sum(dim=1)

    def forward(self, noisy: Float[Tensor, "b 1 1 1 1"], level: Level, conditioning: Float[Tensor, "b"]) -> Curve:
        self.calls += 1
        value = noisy.flatten() * (1 - level / 2000)
        return Curve(self.weight * value + 0.1 * conditioning, conditioning * value.cos())


POSITIONS = torch.tensor([[0.2], [-0.7], [0.4]])
NAMES: list[tuple[str | int, ...]] = [("sample", scene) for scene in range(3)]
CONTEXT = Views(torch.tensor([0.3, -0.5, 0.8]).view(3, 1, 1, 1, 1), torch.zeros(3, 1))


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")


def model(sampler: Sampler, process: NoiseProcess | None = None, **settings: Any) -> DiffusionWithForwardModel:
    return DiffusionWithForwardModel(CurveDenoiser(), Points(), process, sampler, samples=1, **settings)


def test_no_sampler_and_no_spacing_is_left_out() -> None:
    exported = [value for value in vars(diffusion).values() if isinstance(value, type)]
    samplers = {kind for kind in exported if issubclass(kind, Sampler)} - {Sampler, MultistepSampler}
    assert {type(make(3)) for make in SAMPLERS.values()} == samplers
    spacings = {kind for kind in exported if issubclass(kind, Spacing)} - {Spacing, GivenLevels}
    assert {type(spacing) for spacing in SPACINGS} == spacings


@every_sampler
@pytest.mark.parametrize("steps", [1, 2, 5, 16])
@pytest.mark.parametrize(("scale", "space"), [(1.0, "signal"), (2.5, "signal")])
def test_the_observation_is_that_of_the_signal(make: Make, steps: int, scale: float, space: GuidanceSpace) -> None:
    whole = model(make(steps), guidance_scale=scale, guidance_space=space)
    drawn = whole.sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1))
    torch.testing.assert_close(drawn.observation, Points()(drawn.signal, POSITIONS), rtol=0, atol=1e-6)


@every_sampler
@pytest.mark.parametrize("spacing", SPACINGS, ids=lambda spacing: type(spacing).__name__)
def test_the_observation_is_that_of_the_signal_with_every_spacing(make: Make, spacing: Spacing) -> None:
    drawn = model(make(8, spacing=spacing)).sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1))
    torch.testing.assert_close(drawn.observation, Points()(drawn.signal, POSITIONS), rtol=0, atol=1e-6)


@every_sampler
@pytest.mark.parametrize("process", [VariancePreserving(), VarianceExploding()], ids=["preserving", "exploding"])
def test_the_observation_is_that_of_the_signal_on_continuous_processes(make: Make, process: NoiseProcess) -> None:
    if make is time_shift:
        pytest.skip("moves integer levels: refused")
    drawn = model(make(8), process).sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1))
    assert drawn.observation.isfinite().all()
    torch.testing.assert_close(drawn.observation, Points()(drawn.signal, POSITIONS), rtol=0, atol=1e-6)


@every_sampler
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_evaluations_and_pieces_of_work_are_counted_as_they_happen(make: Make, steps: int) -> None:
    whole, done = model(make(steps), guidance_scale=2.0), []
    whole.plan.follow(done.append)
    whole.sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1))
    denoiser: Any = whole.denoiser
    assert denoiser.calls == whole.sampler.evaluations
    assert sum(done) == whole.sampler.evaluations * len(NAMES)
    # And one more piece a draw to observe it.
    batch = Batch(CONTEXT, Views(torch.zeros(3, 1, 1, 1, 1), POSITIONS), CONTEXT, ["a", "b", "c"], {})
    assert whole.work(batch) == 3 * (whole.sampler.evaluations + 1)


@every_sampler
def test_nothing_is_remembered_from_call_to_call(make: Make) -> None:
    whole = model(make(6))
    before = {name: repr(value) for name, value in vars(whole.sampler).items()}
    first, second = (whole.sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1)).observation for _ in range(2))
    assert torch.equal(first, second)
    # Even if one call is given up half-way, and another runs in between.
    noise = torch.randn(3, 1, generator=torch.Generator().manual_seed(1))
    left = whole.sampler.sample(lambda noisy, level: noisy.tanh(), noise, CosineProcess(), lambda: noise)
    next(left), next(left)
    assert torch.equal(whole.sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1)).observation, first)
    assert {name: repr(value) for name, value in vars(whole.sampler).items()} == before


@every_sampler
def test_a_process_of_integer_levels_is_asked_for_integer_levels_alone(make: Make) -> None:
    """Between two levels as well, where the middle of two is often none."""
    given: list[Tensor] = []

    def denoise(noisy: Tensor, level: Level) -> Tensor:
        given.append(level)
        return noisy.tanh()

    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    for steps in (6, 7):
        *_, _last = make(steps).sample(denoise, noise, CosineProcess(), lambda: noise)
    assert {level.dtype for level in given} == {torch.long}


@every_sampler
def test_what_an_estimate_is_of_is_passed_on_unseen(make: Make) -> None:
    given: list[object] = []

    def denoise(noisy: Tensor, level: Level) -> Estimate:
        given.append(object())
        return Estimate(noisy.tanh(), given[-1])

    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    *_, last = make(7).sample(denoise, noise, CosineProcess(), lambda: noise)
    assert last.source is given[-1]


def seeded(shape: tuple[int, ...]) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(3)
    return lambda: torch.randn(shape, generator=generator)


def estimate(noisy: Tensor, level: Level) -> Tensor:
    return (noisy * (1 - level.view(-1, 1) / 1100) + 0.3).tanh() * 3


@every_sampler
def test_estimates_are_thresholded_before_anything_remembers_them(make: Make) -> None:
    shape = (3, 8)

    def thresholded(noisy: Tensor, level: Level) -> Tensor:
        return diffusion.dynamic_threshold(estimate(noisy, level), 0.8)

    noise = seeded(shape)()
    ours = make(9, threshold_quantile=0.8).sample(estimate, noise, CosineProcess(), seeded(shape))
    expected = make(9).sample(thresholded, noise, CosineProcess(), seeded(shape))
    for step, by_hand in zip(ours, expected, strict=True):
        assert torch.equal(step.noisy, by_hand.noisy)
        assert step.clean.abs().max() <= 1


@every_sampler
def test_temperature_scales_the_initial_noise_alone(make: Make) -> None:
    noise = seeded((3, 8))()
    *_, cooler = make(5, temperature=0.25).sample(estimate, noise, CosineProcess(), seeded((3, 8)))
    *_, scaled = make(5).sample(estimate, noise * 0.25, CosineProcess(), seeded((3, 8)))
    assert torch.equal(cooler.noisy, scaled.noisy)


@every_sampler
@pytest.mark.parametrize("steps", [4, 20])
def test_single_precision_is_enough_from_the_noisiest_level_on(make: Make, steps: int) -> None:
    # ρ is 20,000 there: what is computed from noise must not lose all its digits. Methods that integrate ρ from
    # there are clipped by default.
    noise = seeded((3, 8))()
    fresh = seeded((3, 8))
    drawn = [fresh() for _ in range(steps)]

    def sample(dtype: torch.dtype) -> Tensor:
        again: Iterator[Tensor] = iter(drawn)
        *_, last = make(steps).sample(estimate, noise.to(dtype), CosineProcess(), lambda: next(again).to(dtype))
        assert last.noisy.dtype == dtype
        return last.noisy.double()

    torch.testing.assert_close(sample(torch.float32), sample(torch.float64), rtol=0, atol=2e-4)


@every_sampler
def test_fresh_noise_is_drawn_only_by_those_who_add_it(make: Make, request: pytest.FixtureRequest) -> None:
    drawn: list[int] = []

    def draw() -> Tensor:
        drawn.append(1)
        return torch.zeros(3, 8)

    list(make(6).sample(estimate, seeded((3, 8))(), CosineProcess(), draw))
    stochastic = request.node.callspec.id in STOCHASTIC
    assert len(drawn) == (5 if stochastic else 0)  # none in the step to clean


@pytest.mark.parametrize("name", STOCHASTIC)
def test_without_eta_stochastic_samplers_are_the_deterministic_ones(name: str) -> None:
    pairs = {
        "ddpm": (DDIM(9, eta=0.0), DDIM(9)),
        "sde 2m": (DPMSolverSDE(9, eta=0.0), DPMSolver(9)),
        "sde 3m": (DPMSolverSDE(16, 3, eta=0.0), DPMSolver(16, 3, second_order="integral")),
    }
    noise = seeded((3, 8))().double()
    results = []
    for sampler in pairs[name]:
        *_, last = sampler.sample(estimate, noise, CosineProcess(), seeded((3, 8)))
        results.append(last.noisy)
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)


@every_sampler
def test_results_say_at_which_levels_they_were_sampled(make: Make) -> None:
    sampler = "sampler.sampler" if make is time_shift else "sampler"
    settings = model(make(6, spacing=Quadratic(last=9))).settings()
    assert settings[f"{sampler}.steps"] == 6
    assert settings[f"{sampler}.spacing.last"] == 9
    listed = model(make(2, spacing=GivenLevels([5, 3]))).settings()
    assert [listed[name] for name in sorted(listed) if name.startswith(f"{sampler}.spacing.levels")] == [[5, 3]]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: DPMSolver(order=4), "order"),
        (lambda: DPMSolver(uneven_below=-1), "uneven_below"),
        (lambda: DPMSolverSDE(order=1), "order"),
        (lambda: DPMSolverSDE(eta=1.5), "eta"),
        (lambda: DPMSolver(full_curvature=True), "full_curvature"),
        (lambda: DEIS(uneven_below=float("nan")), "uneven_below"),
        (lambda: DPMSolverSinglestep(0), "steps"),
        (lambda: UniPC(order=1), "order"),
        (lambda: DEIS(order=5), "order"),
        (lambda: PLMS(order=5), "order"),
        (lambda: GHVB(momentum=0), "momentum"),
        (lambda: HeavyBall(momentum=1.1), "momentum"),
        (lambda: HeavyBall(order=0), "order"),
        (lambda: Heun(0), "steps"),
        (lambda: UniPC(temperature=0), "temperature"),
        (lambda: UniPC(temperature=float("nan")), "temperature"),
        (lambda: UniPC(threshold_quantile=2), "threshold_quantile"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Sampler], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_a_model_refuses_levels_that_its_process_lacks_before_it_computes_anything() -> None:
    with pytest.raises(ValueError, match=r"\b20\b.*\b10\b"):
        model(UniPC(20), CosineProcess(10))
    with pytest.raises(ValueError, match="999"):
        model(DDIM(2, spacing=GivenLevels([999, 3])), CosineProcess(10))
