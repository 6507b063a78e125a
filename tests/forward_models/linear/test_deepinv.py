"""deepinv's physics as operators, against what deepinv itself computes."""

import pytest
import torch
from every_operator import generator

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import DeepinvOperator

deepinv = pytest.importorskip("deepinv")
SHAPE = (3, 8, 8)


def test_a_physics_maps_copies_as_its_own_batches() -> None:
    kernel = torch.rand(1, 1, 3, 3, generator=generator())
    physics = deepinv.physics.Blur(filter=kernel, padding="circular")
    operator = DeepinvOperator(physics, SHAPE, batch=2)
    images = torch.randn(2, 3, *SHAPE, generator=generator())
    seen = operator.apply(images)
    assert seen[:, 1] == pytest.approx(physics.A(images[:, 1]), abs=1e-6)
    u = torch.randn(seen.shape, generator=generator(2))
    assert (seen * u).sum().item() == pytest.approx((images * operator.adjoint(u)).sum().item(), rel=1e-4)
    assert operator.pseudo_inverse(seen)[:, 0] == pytest.approx(physics.A_dagger(seen[:, 0]), abs=1e-5)
    again = operator.apply(operator.pseudo_inverse(seen))
    assert (again - seen).norm() < 1e-2 * seen.norm()
    assert "singular values" not in operator.abilities
    with pytest.raises(UserError, match="singular value"):
        operator.decompose()


def test_singular_values_of_a_decomposable_physics() -> None:
    mask = (torch.rand(1, *SHAPE, generator=generator()) < 0.5).float()
    operator = DeepinvOperator(deepinv.physics.Inpainting(SHAPE, mask=mask), SHAPE)
    found = operator.decompose()
    image = torch.randn(1, *SHAPE, generator=generator(3))
    assert found.values.view(mask.shape) == pytest.approx(mask)
    assert found.from_right(found.to_right(image)) == pytest.approx(image, abs=1e-6)
    seen = found.to_left(operator.apply(image))
    assert seen == pytest.approx(found.values * found.to_right(image), abs=1e-6)
    assert operator.norm() == pytest.approx(torch.ones(1, dtype=torch.float64), rel=1e-3)


def test_measurements_that_are_no_images_are_laid_out_as_numbers() -> None:
    physics = deepinv.physics.CompressedSensing(m=20, img_size=SHAPE)
    operator = DeepinvOperator(physics, SHAPE, batch=2)
    assert operator.measurement_shape == (20, 1, 1)
    image = torch.randn(2, *SHAPE, generator=generator())
    assert operator.apply(image)[:, :, 0, 0] == pytest.approx(physics.A(image), abs=1e-5)


def test_another_object_is_refused() -> None:
    with pytest.raises(UserError, match=r"LinearPhysics.*\bA\b"):
        DeepinvOperator(torch.nn.Linear(2, 2), SHAPE)
