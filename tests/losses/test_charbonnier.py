"""The smooth absolute error against SparseFusion's code and against its definition with decimal numbers."""

from decimal import Decimal

import pytest
import torch
from sparsefusion_reference import PRECISIONS, check, reference

from dfm_lightning.losses.charbonnier import charbonnier


@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_of_colours_and_silhouettes_are_the_released_ones(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["losses"]
    for found, true, name in (("image", "target", "colour"), ("silhouette", "mask", "silhouette")):
        check(charbonnier(case[found].to(dtype), case[true].to(dtype)), case[precision][name], tolerance)


@pytest.mark.parametrize("scale", ["0.1", "0.5", "3"])
def test_it_is_its_definition(scale: str) -> None:
    differences = [Decimal(text) for text in ("0", "0.01", "-0.2", "1.5", "-40")]
    s = Decimal(scale)
    expected = sum(s * ((1 + (d / s) ** 2).sqrt() - 1) for d in differences) / len(differences)
    true = torch.linspace(-1, 1, 5, dtype=torch.float64)
    found = true + torch.tensor([float(d) for d in differences], dtype=torch.float64)
    assert float(charbonnier(found, true, float(scale))) == pytest.approx(float(expected), rel=1e-12)
