"""Operators against what InvFusion's released code computed (tests/data/README.md)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_lightning.forward_models.linear import LinearOperator, matrix_operator, strided_blur

FOLDER = Path(__file__).parents[2] / "data/inverse_problems"
DATA = torch.load(FOLDER / "operators.pt", weights_only=True)
BLURS = {"blur 2": DATA["blur"], **torch.load(FOLDER / "strided_blurs.pt", weights_only=True)}


def same(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> bool:
    return bool((found.reshape(expected.shape) - expected).abs().max() <= tolerance * expected.abs().max())


def check(operator: LinearOperator, case: dict[str, Any]) -> None:
    shape = (-1, *operator.measurement_shape)
    copies = case["stack_y"].shape[:2]
    assert same(operator.apply(case["x"]), case["y"])
    assert same(operator.adjoint(case["u"].view(shape)), case["adjoint_u"])
    assert same(operator.pseudo_inverse(case["y"].view(shape)), case["pinv_y"])
    assert same(operator.apply(case["stack"]), case["stack_y"])
    assert same(operator.pseudo_inverse(case["stack_y"].view(*copies, *shape[1:])), case["stack_pinv_y"])


def test_matrix() -> None:
    case = DATA["matrix"]
    check(matrix_operator(case["matrix"].unflatten(-1, case["x"].shape[1:])), case)


@pytest.mark.parametrize("name", BLURS)
def test_strided_blur_with_the_released_pseudo_inverse(name: str) -> None:
    case = BLURS[name]
    check(strided_blur(case["kernel"][None], case["stride"], tuple(case["x"].shape[1:]), approximate=True), case)


def test_strided_blur_with_the_true_pseudo_inverse() -> None:
    case = DATA["blur"]
    operator = strided_blur(case["kernel"][None], case["stride"], (3, 16, 16))
    found = operator.pseudo_inverse(case["y"].view(1, *operator.measurement_shape))[0]
    # The reference inverts singular values down to 10⁻⁵ of the largest, in single precision.
    assert same(found, case["true_pinv_y0"], 1e-3)
    assert operator.norm() == pytest.approx(case["norm"].double()[None], rel=1e-5)
    approximate = strided_blur(case["kernel"][None], case["stride"], (3, 16, 16), approximate=True)
    other = approximate.pseudo_inverse(case["y"].view(1, *operator.measurement_shape))[0]
    assert (other - case["true_pinv_y0"]).norm() > 0.5 * case["true_pinv_y0"].norm()
