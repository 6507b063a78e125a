"""Points of pixelNeRF's field that choose their colours among the views' pixels, and what they choose at first."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from known_fields import cameras_at
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.denoisers import PixelNeRFDenoiser
from dfm_lightning.denoisers.blended_field import BlendedField
from dfm_lightning.denoisers.linear_estimate import LinearEstimate
from dfm_lightning.diffusion import CosineProcess, VarianceExploding
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.rays import project_points, transform_points
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.types import Views, map_tensors, repeat_batch

SIZE = 8
NEAR, FAR = 0.5, 8.0


def denoiser(**settings: bool) -> PixelNeRFDenoiser:
    """An untrained one."""
    torch.manual_seed(0)
    encoder = ImageEncoder(16, 1, 2, 6, 3, 5, 4)
    model = PixelNeRFDenoiser(encoder, VolumeRendering(NEAR, FAR, 12, 0), mlp_width=8, octaves=2, **settings)
    model.use_process(CosineProcess())
    return model.double().eval()


def views(positions: list[list[float]]) -> Views:
    cameras = repeat_batch(cameras_at(positions, SIZE), 2)
    return Views(torch.rand(2, len(positions), 3, SIZE, SIZE, dtype=torch.float64) * 2 - 1, cameras)


def moved(model: nn.Module) -> None:
    """Give all parameters random values."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)


CONTEXT = [[0.0, 0, 0], [0.3, 0, 0]]
TARGET = [[0.1, 0.2, 0]]


@pytest.mark.parametrize("level", [50, 600, 999])
def test_without_training_the_denoised_target_is_its_linear_estimate(level: int) -> None:
    model, target = denoiser(source_colours=True, preconditioned=True), views(TARGET)
    conditioning = model.condition(views(CONTEXT), target.params)
    levels = torch.full((2,), level)
    noisy = model.linear._held.process.add_noise(target.observation, torch.randn(2, 1, 3, 8, 8).double(), levels)
    field = model(noisy, levels, conditioning)
    image = VolumeRendering(NEAR, FAR, 24, 0).eval()(field, target.params)
    linear = model.linear(noisy[:, 0], levels, conditioning.estimate[:, 0, :3]).clamp(-1, 1)
    # Other choices have three times 3e-4 of the weight.
    torch.testing.assert_close(image[:, 0], linear, atol=4e-3, rtol=0)


def test_the_linear_estimate_is_the_wiener_filter_of_cosines() -> None:
    """SciPy's discrete cosine transform, instead of mirrored images."""
    linear = LinearEstimate().double()
    linear.use_process(CosineProcess())
    noisy, estimate = torch.randn(2, 3, 6, 8).double(), torch.randn(2, 3, 6, 8).double()
    found = linear(noisy, torch.tensor([300, 800]), estimate).detach()
    down, across = math.pi * np.arange(6) / 6, math.pi * np.arange(8) / 8
    length, variance = linear.log_length.exp().item(), linear.log_variance.exp().item()
    square = (down[:, None] ** 2 + across**2) * length**2
    spectrum = 2 * math.pi * length**2 * variance / (1 + square) ** 1.5
    for number, level in enumerate((300, 800)):
        signal, noise = (r.item() for r in CosineProcess().rates(torch.tensor([level]), torch.zeros(1).double()))
        gain = signal * spectrum / (signal**2 * spectrum + noise**2)
        change = scipy.fft.dctn((noisy - signal * estimate)[number].numpy(), axes=(1, 2), norm="ortho")
        expected = estimate[number].numpy() + scipy.fft.idctn(gain * change, axes=(1, 2), norm="ortho")
        np.testing.assert_allclose(found[number].numpy(), expected, atol=1e-6)


def test_no_other_filter_of_its_kind_is_nearer_to_images_of_its_spectrum() -> None:
    """Of 400 images, so that errors are known to a few thousandths of themselves."""
    torch.manual_seed(0)
    linear = LinearEstimate().double()
    linear.use_process(CosineProcess())
    spectrum = linear._spectrum(16, 16)[:16, :16].detach().numpy()
    drawn = np.random.default_rng(0).standard_normal((400, 3, 16, 16)) * np.sqrt(spectrum)
    clean = torch.from_numpy(scipy.fft.idctn(drawn, axes=(2, 3), norm="ortho"))
    level = torch.full((400,), 500)
    noisy = CosineProcess().add_noise(clean, torch.randn_like(clean), level)

    def error() -> float:
        return (linear(noisy, level, torch.zeros_like(clean)) - clean).square().mean().item()

    least = error()
    for parameter in (linear.log_variance, linear.log_length):
        for step in (-1.0, 1.0):
            with torch.no_grad():
                parameter.add_(step)
                assert error() > 1.02 * least
                parameter.sub_(step)


def pixels_at(images: Tensor, field: BlendedField, points: Tensor) -> Tensor:
    """The views' colours at points, by PyTorch's own sampling."""
    inner = field.features
    positions = project_points(inner.intrinsics, transform_points(inner.world_to_camera, points))
    grid = (positions * 2 - 1).flatten(0, 1)[:, None]
    found = F.grid_sample(images.flatten(0, 1), grid, align_corners=False, padding_mode="border")
    return found[:, :, 0].unflatten(0, images.shape[:2]).movedim(2, -1) * 0.5 + 0.5


def test_equal_choices_give_the_mean_of_what_the_views_show() -> None:
    model, context = denoiser(source_colours=True), views(CONTEXT)
    moved(model)
    with torch.no_grad():
        # Views have equal logits, and a point's own colour next to no weight.
        model.deterministic_mlp.source.weight.zero_()
        model.deterministic_mlp.output.weight[-1].zero_()
        model.deterministic_mlp.output.bias[-1] = -40.0
    field = model.deterministic_field(context)
    points = torch.rand(2, 20, 3, dtype=torch.float64) * 0.2 + torch.tensor([0.0, 0.0, 2.0])
    expected = pixels_at(context.observation, field, points).mean(dim=1)
    torch.testing.assert_close(field.query(points, "coarse").colour, expected, atol=1e-6, rtol=0)


def test_what_no_view_sees_has_its_own_colour() -> None:
    model, context = denoiser(source_colours=True), views(CONTEXT)
    moved(model)
    behind = torch.rand(2, 20, 3, dtype=torch.float64) - torch.tensor([0.5, 0.5, 4.0])
    field = model.deterministic_field(context)
    assert isinstance(field, BlendedField)
    other = field._replace(colours=torch.rand(2, 2, 8, 8, 3, dtype=torch.float64))
    for one, two in zip(field.query(behind, "coarse"), other.query(behind, "coarse"), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_learned_weights_begin_as_a_mean_and_do_not_heed_the_order_of_the_context() -> None:
    plain, model, context = denoiser(), denoiser(learned_weights=True), views(CONTEXT)
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    points = torch.randn(2, 20, 3, dtype=torch.float64) + torch.tensor([0, 0, 2])
    for one, other in zip(
        model.deterministic_field(context).query(points, "coarse"),
        plain.deterministic_field(context).query(points, "coarse"),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    moved(model)
    turned = map_tensors(lambda tensor: tensor.flip(1), context)
    level = torch.tensor([0, 500])
    noisy, target = torch.randn(2, 1, 3, 8, 8).double(), views(TARGET).params
    found = [
        model(noisy, level, model.condition(each, target)).query(points, "fine") for each in (context, turned)
    ]
    assert found[0].density.std() > 0
    torch.testing.assert_close(found[0].density, found[1].density)


def test_gradients_reach_every_parameter() -> None:
    model, target = denoiser(source_colours=True, learned_weights=True, preconditioned=True), views(TARGET)
    moved(model)
    conditioning = model.condition(views(CONTEXT), target.params)
    field = model(torch.randn(2, 1, 3, 8, 8).double(), torch.tensor([300, 700]), conditioning)
    points = torch.rand(2, 50, 3, dtype=torch.float64) * 0.2 + torch.tensor([0, 0, 2.0])
    values = [*field.query(points, "coarse"), *field.query(points, "fine"), conditioning.estimate]
    sum(value.square().sum() for value in values).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="source_colours"):
        denoiser(preconditioned=True)
    with pytest.raises(UserError, match="data_std"):
        denoiser(source_colours=True).use_process(VarianceExploding(data_std=0.5))
