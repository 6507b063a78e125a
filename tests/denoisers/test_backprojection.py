"""Denoisers that are given observations taken back to the signal's grid by the forward model."""

import warnings
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers import BackprojectionDenoiser, DiTDenoiser, MLPDenoiser, UNetDenoiser
from dfm_lightning.denoisers.taken_back import taken_back
from dfm_lightning.diffusion import CosineProcess, NoiseProcess, VariancePreserving
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import LinearObservation, Matrix, matrix_operator, one_a_view, sensing
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.types import Views, map_tensors

SCENES, MEASURED = 2, 5
LEVEL = torch.tensor([100, 700])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measured(seed: int, views: int = 1) -> Views:
    operator = matrix_operator(drawn(SCENES, MEASURED, 1, 4, 4, seed=seed))
    stacked = map_tensors(lambda part: part[:, None].expand(-1, views, *part.shape[1:]), operator)
    return Views(drawn(SCENES, views, MEASURED, 1, 1, seed=seed + 1), sensing(stacked, (SCENES, views)))


class Seen(torch.nn.Module):
    """A network that keeps what it is given, and adds it up."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.given: list[Tensor] = []

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        self.given.append(x)
        return self.weight * x.sum(dim=1, keepdim=True)


class Plain(BackprojectionDenoiser):
    def make_network(self, inputs: int, outputs: int) -> Seen:
        assert (inputs, outputs) == (3, 1)
        return Seen()


def rows_of(views: Views) -> Tensor:
    """The matrices that made observations, one for each scene and view."""
    operator = one_a_view(views.params.operator)
    assert isinstance(operator, Matrix)
    return operator.rows


def prepared(denoiser: Any, forward_model: ForwardModel, process: NoiseProcess | None = None) -> Any:
    denoiser.use_process(process or CosineProcess())
    denoiser.use_forward_model(forward_model)
    return denoiser


@pytest.mark.parametrize("views", [1, 2])
def test_a_linear_observation_comes_back_by_the_adjoint_as_far_as_explains_it_best(views: int) -> None:
    context, target = measured(0, views), measured(5)
    denoiser = prepared(Plain([1, 4, 4]), LinearObservation())
    conditioning = denoiser.condition(context, target.params)
    rows = rows_of(context).view(SCENES, views * MEASURED, 16)
    flat = context.observation.flatten(1)
    adjoint = torch.einsum("bmn,bm->bn", rows, flat)
    step = adjoint.square().sum(1) / torch.einsum("bmn,bn->bm", rows, adjoint).square().sum(1)
    torch.testing.assert_close(conditioning.back.flatten(1), step[:, None] * adjoint, rtol=1e-3, atol=1e-4)

    noisy = drawn(SCENES, 1, MEASURED, 1, 1, seed=9)
    denoiser(noisy, LEVEL, conditioning)
    (given,) = denoiser.networks[0].given
    adjoint = torch.einsum("bmn,bm->bn", rows_of(target).flatten(2), noisy.flatten(1))
    assert torch.equal(given[:, 0], torch.zeros(SCENES, 4, 4))
    assert torch.equal(given[:, 1], conditioning.back[:, 0])
    assert torch.cosine_similarity(given[:, 2].flatten(1), adjoint).numpy() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("steps", [2, 3, MEASURED])
def test_conjugate_gradients_lead_to_the_best_signal_of_a_krylov_space(steps: int) -> None:
    views, factor = measured(0), torch.tensor([1.0, 0.4]).view(2, 1, 1, 1, 1)
    signal, rows = drawn(SCENES, 1, 4, 4, seed=3), rows_of(views).flatten(2).double()
    first, *_, last = taken_back(LinearObservation(), signal, views.params, views.observation, factor, steps)
    alone = taken_back(LinearObservation(), signal, views.params, views.observation, factor)
    assert torch.equal(torch.stack(alone), first[None])
    seen = factor.double().flatten() * torch.einsum("bmn,bn->mb", rows, signal.flatten(1).double())
    residual = (views.observation.flatten(1).T - seen).T
    for scene in range(SCENES):
        spanned = [rows[scene].T @ residual[scene]]
        while len(spanned) < steps:
            spanned.append(rows[scene].T @ rows[scene] @ spanned[-1])
        basis = torch.linalg.qr(torch.stack(spanned, dim=1))[0]
        best = basis @ torch.linalg.lstsq(rows[scene] @ basis, residual[scene][:, None]).solution[:, 0]
        torch.testing.assert_close(last[scene].flatten().double(), best, rtol=1e-3, atol=1e-3)
    if steps == MEASURED:
        inverse = torch.einsum("bnm,bm->bn", torch.linalg.pinv(rows), residual)
        torch.testing.assert_close(last.flatten(1).double(), inverse, rtol=1e-3, atol=1e-3)


def test_a_network_sees_the_result_of_each_step() -> None:
    class Wide(Plain):
        def make_network(self, inputs: int, outputs: int) -> Seen:
            assert (inputs, outputs) == (7, 1)
            return Seen()

    context, target, noisy = measured(0), measured(5), drawn(SCENES, 1, MEASURED, 1, 1, seed=9)
    denoiser = prepared(Wide([1, 4, 4], inversion_steps=3), LinearObservation())
    denoiser(noisy, LEVEL, denoiser.condition(context, target.params))
    (given,) = denoiser.networks[0].given
    expected = [denoiser.reference.expand(SCENES, 1, 4, 4)]
    for params, seen in ((context.params, context.observation), (target.params, noisy)):
        expected += taken_back(LinearObservation(), expected[0], params, seen, steps=3)
    torch.testing.assert_close(given, torch.cat(expected, dim=1))


class Squares(ForwardModel):
    """Squares of an image's numbers times φ [b v 1 4 4]: the derivative vanishes at 0."""

    def forward(self, signal: Float[Tensor, "b 1 4 4"], params: Tensor) -> Tensor:
        return signal[:, None].square() * params


@pytest.mark.parametrize(
    "process",
    [CosineProcess(), VariancePreserving(data_std=0.5)],
    ids=["plain", "scaled"],
)
def test_later_stages_take_observations_back_at_the_signal_predicted_so_far(process: NoiseProcess) -> None:
    torch.manual_seed(0)
    denoiser = prepared(Plain([1, 4, 4], stages=2, linearised_at=0.5), Squares(), process)
    context = Views(drawn(SCENES, 1, 1, 4, 4).square(), torch.ones(SCENES, 1, 1, 4, 4))
    clean, level = context.observation, LEVEL if process.integer_levels else LEVEL.float()
    noisy, told = process.denoiser_input(process.add_noise(clean, torch.zeros_like(clean), level), level)
    denoiser(noisy, told, denoiser.condition(context, context.params))
    first, second = (network.given[0] for network in denoiser.networks)
    torch.testing.assert_close(first[:, :1], denoiser.reference.expand(SCENES, 1, 4, 4))
    estimate = second[:, :1]
    torch.testing.assert_close(estimate, first.sum(dim=1, keepdim=True))
    # Without noise in the target both observations are the same, and so is where they lead.
    slope = 2 * estimate * (context.observation[:, 0] - estimate.square())
    for given in (second[:, 1:2], second[:, 2:]):
        similar = torch.cosine_similarity(given.detach().flatten(1), slope.detach().flatten(1))
        assert similar.numpy() == pytest.approx([1, 1], abs=1e-4)


def test_the_step_is_measured_where_the_forward_model_is_not_linear() -> None:
    torch.manual_seed(0)
    denoiser = prepared(Plain([1, 4, 4], linearised_at=0.5), Squares())
    context = Views(drawn(SCENES, 1, 1, 4, 4).square(), torch.ones(SCENES, 1, 1, 4, 4))
    back = denoiser.condition(context, context.params).back
    moved = Squares()(denoiser.reference + 0.3 * back, context.params)
    still = Squares()(denoiser.reference + 0 * back, context.params)
    errors = [(seen - context.observation).square().sum() for seen in (still, moved)]
    assert errors[1] < errors[0]


def test_a_vanishing_derivative_is_refused() -> None:
    context = Views(torch.ones(SCENES, 1, 1, 4, 4), torch.ones(SCENES, 1, 1, 4, 4))
    with pytest.raises(UserError, match="linearised_at"):
        prepared(Plain([1, 4, 4]), Squares()).condition(context, context.params)

    class Deaf(Squares):
        def forward(self, signal: Tensor, params: Tensor) -> Tensor:
            return super().forward(signal.detach(), params)

    with pytest.raises(UserError, match="do not depend"):
        prepared(Plain([1, 4, 4], linearised_at=1.0), Deaf()).condition(context, context.params)


@pytest.mark.parametrize(
    "make",
    [
        lambda: UNetDenoiser([1, 4, 4], [8, 8], 16, stages=2, inversion_steps=2),
        lambda: DiTDenoiser([1, 4, 4], width=16, depth=1, heads=2, patch=2),
    ],
    ids=["unet", "dit"],
)
def test_the_stock_networks_learn_and_depend_on_operators(make: Any) -> None:
    torch.manual_seed(0)
    denoiser = prepared(make(), LinearObservation())
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    context, target, noisy = measured(0), measured(5), drawn(SCENES, 1, MEASURED, 1, 1, seed=9)
    signal = denoiser(noisy, LEVEL, denoiser.condition(context, target.params))
    assert signal.shape == (SCENES, 1, 4, 4)
    signal.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in denoiser.parameters() if p.requires_grad)
    for others in ((measured(7)._replace(observation=context.observation), target), (context, measured(8))):
        other = denoiser(noisy, LEVEL, denoiser.condition(others[0], others[1].params))
        assert not torch.allclose(signal, other, atol=1e-3)
    with torch.inference_mode():
        given = map_tensors(torch.clone, (context, target.params))
        again = denoiser(noisy.clone(), LEVEL, denoiser.condition(*given))
    torch.testing.assert_close(again, signal.detach())
    nothing = context._replace(observation=context.observation[:, :0])
    assert not denoiser.condition(nothing, target.params).back.any()


def test_curves_have_a_network_of_one_dimension() -> None:
    class Windows(ForwardModel):
        def forward(self, signal: Float[Tensor, "b 2 n"], params: Float[Tensor, "b v n"]) -> Tensor:
            return (signal[:, None] * params[:, :, None])[:, :, :, None]

    denoiser = prepared(UNetDenoiser([2, 12], [8, 16], 16), Windows())
    params = torch.ones(SCENES, 1, 12)
    context = Views(drawn(SCENES, 1, 2, 1, 12), params)
    assert denoiser(context.observation, LEVEL, denoiser.condition(context, params)).shape == (SCENES, 2, 12)
    assert denoiser.condition(context, params).back == pytest.approx(context.observation[:, 0, :, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UNetDenoiser([1, 6, 6], [8, 8, 8]), "multiples of 4"),
        (lambda: UNetDenoiser([4]), "signal_shape"),
        (lambda: DiTDenoiser([1, 6, 6], patch=4), "patch"),
    ],
)
def test_grids_that_do_not_divide_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_the_stock_mlp_warns_where_most_that_it_is_given_are_parameters() -> None:
    target, few = torch.zeros(SCENES, 1, 100), Views(torch.zeros(SCENES, 1, 1, 1, 4), torch.zeros(SCENES, 1, 2))
    mostly = MLPDenoiser(208, [2], width=8, depth=1)
    with pytest.warns(UserWarning, match="UNetDenoiser"):
        mostly.condition(few._replace(params=target), target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mostly.condition(few._replace(params=target), target)  # once
        MLPDenoiser(12, [2], width=8, depth=1).condition(few, few.params)
        MLPDenoiser(208, [2], width=8, depth=1).eval().condition(few._replace(params=target), target)
