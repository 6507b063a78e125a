"""deepinv's physics as operators, against what deepinv itself computes."""

import pytest
import torch
from every_operator import generator

from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.diffusion import Heun, Karras
from dfm_lightning.diffusion.zero_shot import DDNM, DPS, PiGDM, ZeroShotSolver
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import LinearObservation, deepinv_operator, sensing, whole_image
from dfm_lightning.tasks import LinearInverseProblem
from dfm_lightning.types import Views, map_tensors, repeat_batch

deepinv = pytest.importorskip("deepinv")
SHAPE = (3, 8, 8)


def test_a_physics_maps_copies_as_its_own_batches() -> None:
    kernel = torch.rand(1, 1, 3, 3, generator=generator())
    physics = deepinv.physics.Blur(filter=kernel, padding="circular")
    operator = deepinv_operator(physics, SHAPE, batch=2)
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
    operator = deepinv_operator(deepinv.physics.Inpainting(SHAPE, mask=mask), SHAPE)
    found = operator.decompose()
    image = torch.randn(1, *SHAPE, generator=generator(3))
    assert found.values.view(mask.shape) == pytest.approx(mask)
    assert found.from_right(found.to_right(image)) == pytest.approx(image, abs=1e-6)
    seen = found.to_left(operator.apply(image))
    assert seen == pytest.approx(found.values * found.to_right(image), abs=1e-6)
    assert operator.norm() == pytest.approx(torch.ones(1, dtype=torch.float64), rel=1e-3)


def test_measurements_that_are_no_images_are_laid_out_as_numbers() -> None:
    physics = deepinv.physics.CompressedSensing(m=20, img_size=SHAPE)
    operator = deepinv_operator(physics, SHAPE, batch=2)
    assert operator.measurement_shape == (20, 1, 1)
    image = torch.randn(2, *SHAPE, generator=generator())
    assert operator.apply(image)[:, :, 0, 0] == pytest.approx(physics.A(image), abs=1e-5)


def test_it_travels_as_parameters_of_views() -> None:
    kernel = torch.rand(1, 1, 3, 3, generator=generator())
    operator = deepinv_operator(deepinv.physics.Blur(filter=kernel, padding="circular"), SHAPE, batch=2)
    image = torch.randn(2, *SHAPE, generator=generator(4))
    params = sensing(map_tensors(lambda t: t[:, None], operator), (2, 1))
    seen = LinearObservation()(image, params)[:, 0]
    assert seen == pytest.approx(operator.apply(image), abs=1e-6)
    several = repeat_batch(params, 3)
    again = LinearObservation()(image.repeat_interleave(3, dim=0), several)[:, 0]
    assert again == pytest.approx(seen.repeat_interleave(3, dim=0), abs=1e-6)
    one = map_tensors(lambda t: t[1:], params)
    assert LinearObservation()(image[1:], one)[:, 0] == pytest.approx(seen[1:], abs=1e-6)


def test_images_keep_their_own_parameters_in_repetitions_but_cannot_be_taken_apart() -> None:
    mask = (torch.rand(2, *SHAPE, generator=generator()) < 0.5).float()
    operator = deepinv_operator(deepinv.physics.Inpainting(SHAPE, mask=mask), SHAPE, batch=2)
    image = torch.randn(6, *SHAPE, generator=generator(4))
    masks = mask.repeat_interleave(3, dim=0)
    assert repeat_batch(operator, 3).apply(image) == pytest.approx(image * masks)
    assert repeat_batch(operator, 3).decompose().values == pytest.approx(masks.flatten(1))
    with pytest.raises(UserError, match=r"Inpainting.*2 images"):
        map_tensors(lambda t: t[1:], operator).apply(image[:1])
    with pytest.raises(UserError, match=r"\(3, 8, 7\)"):
        deepinv_operator(deepinv.physics.Inpainting(SHAPE, mask=mask), (3, 8, 7), batch=2)


@pytest.mark.parametrize("solver", [None, DDNM(3), DPS(3), PiGDM(3)], ids=lambda s: type(s).__name__)
def test_models_and_solvers_draw_several_images_from_it(solver: ZeroShotSolver | None) -> None:
    denoiser = OperatorDenoiser(
        patch=2, depths=(1,), widths=(48,), windows=(0,), joint=(True,), head_width=16, mapping_width=32
    )
    model = LinearInverseProblem(denoiser, sampler=Heun(2, spacing=Karras()), solver=solver, mean_draws=2).eval()
    mask = (torch.rand(1, *SHAPE, generator=generator()) < 0.5).float()
    operator = deepinv_operator(deepinv.physics.Inpainting(SHAPE, mask=mask), SHAPE)
    image = torch.rand(1, *SHAPE, generator=generator(4)) * 2 - 1
    params = sensing(map_tensors(lambda t: t[:, None], operator), (1, 1))
    context = Views(operator.apply(image)[:, None], params)
    target = sensing(whole_image((1, 1, *SHAPE)), (1, 1))
    drawn = model.sample(context, target, [("a", 0), ("a", 1)], SHAPE).signal
    assert drawn.shape == (2, *SHAPE)
    assert torch.isfinite(drawn).all()
    assert model.posterior("a", context, target)[0].shape == (1, *SHAPE)
    if isinstance(solver, DDNM):
        assert drawn * mask == pytest.approx((image * mask).expand(2, -1, -1, -1), abs=1e-4)


def test_another_object_is_refused() -> None:
    with pytest.raises(UserError, match=r"LinearPhysics.*\bA\b"):
        deepinv_operator(torch.nn.Linear(2, 2), SHAPE)
