"""What holds for every linear operator, against the dense matrix and its singular value decomposition."""

import inspect

import pytest
import torch
from every_operator import MAKERS, NUMBERS, SHAPE, dense, doubled, generator
from torch import Tensor
from torch.utils.data import default_collate

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    DeepinvOperator,
    LinearObservation,
    LinearOperator,
    measure,
    power_iteration,
    sensing,
)
from dfm_lightning.types import concatenate, map_tensors, repeat_batch

# What a strided blur counts as 0 is not exactly 0: 10⁻⁵ of the largest singular value.
CUT = {"strided blur 2": 2e-5, "strided blur 4": 2e-5, "approximate strided blur 2": 2e-5}


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def operator(name: str) -> LinearOperator:
    return doubled(MAKERS[name]())


def drawn(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def tolerance(name: str) -> float:
    return CUT.get(name, 1e-9)


def test_adjoint_is_the_transposed_matrix(operator: LinearOperator) -> None:
    measurement = drawn(2, *operator.measurement_shape)
    expected = torch.einsum("bmn,bm->bn", dense(operator), measurement.flatten(1))
    assert operator.adjoint(measurement).flatten(1) == pytest.approx(expected, abs=1e-9)


def test_every_operator_is_tested() -> None:
    """Those of deepinv have a test file of their own."""

    def leaves(kind: type) -> set[type]:
        return {kind}.union(*(leaves(child) for child in kind.__subclasses__()))

    named = {kind for kind in leaves(LinearOperator) if kind.__module__.startswith("dfm_lightning")}
    concrete = {kind for kind in named if not inspect.isabstract(kind)}
    assert concrete - {DeepinvOperator} == {type(make()) for make in MAKERS.values()}


def test_pseudo_inverse_is_moore_and_penroses(name: str, operator: LinearOperator) -> None:
    matrix = dense(operator)
    if name.startswith("approximate"):
        image = drawn(2, *SHAPE)
        seen = operator.apply(image)
        error = (operator.apply(operator.pseudo_inverse(seen)) - seen).norm() / seen.norm()
        assert 0.05 < error < 0.3
    operator = operator.exact()
    back = torch.linalg.pinv(matrix, rtol=1e-5)
    measurement = drawn(2, *operator.measurement_shape)
    expected = torch.einsum("bnm,bm->bn", back, measurement.flatten(1))
    found = operator.pseudo_inverse(measurement).flatten(1)
    assert (found - expected).norm() <= 100 * tolerance(name) * max(expected.norm().item(), 1)
    image = drawn(2, *SHAPE)
    seen = operator.apply(image)
    again = operator.apply(operator.pseudo_inverse(seen))
    assert (again - seen).norm() <= tolerance(name) * max(seen.norm().item(), 1)


def test_norm_is_the_largest_singular_value(operator: LinearOperator) -> None:
    expected = torch.linalg.matrix_norm(dense(operator), ord=2)
    assert operator.norm().double() == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert power_iteration(operator) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_an_element_does_not_depend_on_the_others(operator: LinearOperator) -> None:
    image, measurement = drawn(2, *SHAPE), drawn(2, *operator.measurement_shape)
    alone = map_tensors(lambda t: t[1:], operator)
    assert alone.apply(image[1:]) == pytest.approx(operator.apply(image)[1:], abs=1e-12)
    for function in ("adjoint", "pseudo_inverse"):
        whole = getattr(operator, function)(measurement)
        assert getattr(alone, function)(measurement[1:]) == pytest.approx(whole[1:], abs=1e-12)


def test_what_is_not_measured_has_no_noise(name: str, operator: LinearOperator) -> None:
    image = drawn(2, *SHAPE)
    noisy = measure(operator, image, 0.5, generator())
    depends = (dense(operator) != 0).any(dim=2).view(2, *operator.measurement_shape)
    # (A blur's coefficients count all, though the imaginary part of a mean is 0.)
    expected = depends if "strided" not in name else torch.ones_like(depends)
    assert torch.equal(noisy != operator.apply(image), expected)
    assert torch.equal(operator.measured_numbers().long(), expected.flatten(1).sum(dim=1))
    for wrong in (-0.1, float("nan")):
        with pytest.raises(UserError, match="σ_y"):
            measure(operator, image, wrong, generator())


def test_copies_share_the_operator(operator: LinearOperator) -> None:
    images = drawn(2, 3, 2, *SHAPE)
    seen = operator.apply(images)
    assert seen.shape == (2, 3, 2, *operator.measurement_shape)
    assert seen[:, 1, 0] == pytest.approx(operator.apply(images[:, 1, 0]), abs=1e-12)
    back = operator.pseudo_inverse(seen)
    assert back[:, 2, 1] == pytest.approx(operator.pseudo_inverse(seen[:, 2, 1]), abs=1e-9)


def test_gradients_are_those_of_linear_maps(operator: LinearOperator) -> None:
    image = drawn(2, *SHAPE).requires_grad_()
    cotangent = drawn(2, *operator.measurement_shape, seed=8)
    (gradient,) = torch.autograd.grad((operator.apply(image) * cotangent).sum(), image)
    assert gradient == pytest.approx(operator.adjoint(cotangent), abs=1e-9)
    measurement = drawn(2, *operator.measurement_shape).requires_grad_()
    weight = drawn(2, *SHAPE, seed=9)
    (gradient,) = torch.autograd.grad((operator.pseudo_inverse(measurement) * weight).sum(), measurement)
    step = drawn(2, *operator.measurement_shape, seed=10)
    change = (operator.pseudo_inverse(step) * weight).sum()
    assert (gradient * step).sum().item() == pytest.approx(change.item(), rel=1e-6, abs=1e-9)


def test_precision_is_that_of_the_input(name: str, operator: LinearOperator) -> None:
    assert operator.apply(drawn(2, *SHAPE)).dtype == torch.float64
    single = MAKERS[name]()
    image = drawn(2, *SHAPE).float()
    assert single.apply(image).dtype == torch.float32
    assert single.pseudo_inverse(single.apply(image)).dtype in (torch.float32, torch.float64)
    assert single.apply(image).double() == pytest.approx(operator.apply(image.double()), abs=1e-4)


def test_decomposition_is_one(name: str, operator: LinearOperator) -> None:
    if name == "projection":
        pytest.skip("has none")
    found = operator.decompose()
    image, measurement = drawn(2, *SHAPE), drawn(2, *operator.measurement_shape)
    coordinates = found.to_right(image)
    assert coordinates.shape == found.values.shape == (2, NUMBERS)
    assert coordinates.square().sum(1) == pytest.approx(image.square().flatten(1).sum(1), rel=1e-5)
    assert found.from_right(coordinates) == pytest.approx(image, abs=1e-5)
    # Uᵀ A x = S Vᵀ x, and A† y = V S⁻¹ Uᵀ y.
    seen = found.to_left(operator.apply(image))
    scale = max(found.values.max().item(), 1)
    assert seen / scale == pytest.approx(found.values * coordinates / scale, abs=2e-5)
    inverse = torch.where(found.values > 0, 1 / found.values, 0.0)
    expected = operator.exact().pseudo_inverse(measurement)
    back = found.from_right(inverse * found.to_left(measurement))
    assert (back - expected).norm() <= 1e-4 * max(expected.norm().item(), 1)


def test_wrong_sizes_are_refused(operator: LinearOperator) -> None:
    with pytest.raises(UserError, match=r"\(3, 8, 8\).*\b2\b"):
        operator.apply(torch.zeros(2, 3, 8, 7))
    with pytest.raises(UserError, match="measurements"):
        operator.pseudo_inverse(torch.zeros(1, *operator.measurement_shape))


def test_it_travels_as_parameters_of_views(name: str) -> None:
    operator = MAKERS[name]()
    items = [sensing(map_tensors(lambda t, i=index: t[i : i + 1], operator), (1,)) for index in (0, 1)]
    params = default_collate(items)
    assert type(params.operator) is type(operator)
    image = torch.randn(2, *SHAPE, generator=generator())
    seen = LinearObservation()(image, params)
    assert seen.shape == (2, 1, *operator.measurement_shape)
    assert seen[:, 0] == pytest.approx(operator.apply(image), abs=1e-5)
    two = concatenate([params, params], dim=1)
    assert LinearObservation()(image, two)[:, 1] == pytest.approx(seen[:, 0], abs=1e-5)
    assert repeat_batch(operator, 3).apply(repeat_batch(image, 3))[4] == pytest.approx(seen[1, 0], abs=1e-5)
