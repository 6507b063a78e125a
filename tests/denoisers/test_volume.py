"""The denoiser that lifts views into a volume."""

from itertools import pairwise

import pytest
import torch
from small_volumes import CUBE, SIZE, batch_of, denoiser, estimate_renderer, model_of, views_of
from torch import nn

from dfm_lightning.denoisers.rendered_estimate import EstimateInput
from dfm_lightning.denoisers.view_encoding import blurs, preconditioning
from dfm_lightning.denoisers.volume import VolumeDenoiser
from dfm_lightning.diffusion import CosineProcess, VarianceExploding
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.scene_grids import CubeFrame, ObjectCube, SceneGrid, ViewFrustum
from dfm_lightning.networks.volume_lookup import lookup_volume
from dfm_lightning.types import Batch, Request, Views, map_tensors, select_views


def values(model: VolumeDenoiser, context: Views, noisy: torch.Tensor, level: int) -> torch.Tensor:
    """Colour and density of the field at some points."""
    target = views_of(3)
    conditioning = model.condition(context, select_views(target, slice(2, 3)).params)
    field = model(noisy, torch.full((2,), level), conditioning)
    points = torch.linspace(-2, 2, 20)[None, :, None] * torch.tensor([0.5, 0.3, 0.2]) + torch.tensor([0, 0, 4.0])
    found = field.query(points.expand(2, -1, -1), "coarse")
    return torch.cat([found.colour, found.density[..., None]], dim=-1)


@pytest.mark.parametrize("grid", [CUBE, ObjectCube(4.0, 2.0), ViewFrustum(2.0, 8.0)])
def test_any_number_of_context_views(grid: SceneGrid) -> None:
    model = denoiser(grid)
    noisy = torch.randn(2, 1, 3, SIZE, SIZE)
    found = [values(model, select_views(views_of(5), slice(count)), noisy, 300) for count in (1, 2, 5)]
    for one, other in pairwise(found):
        assert one.isfinite().all()
        assert not torch.allclose(one, other)


def test_the_order_of_further_context_views_does_not_matter() -> None:
    model, context, noisy = denoiser(), views_of(4), torch.randn(2, 1, 3, SIZE, SIZE)
    turned = map_tensors(lambda t: t[:, [0, 3, 1, 2]], context)
    torch.testing.assert_close(
        values(model, context, noisy, 300), values(model, turned, noisy, 300), atol=1e-5, rtol=1e-4
    )


def test_the_estimate_is_the_field_without_a_target() -> None:
    model, context = denoiser(), views_of(2)
    field = model.deterministic_field(context)
    assert not field.views.present[:, -1].any()
    # Nothing of the absent view reaches the points.
    points = torch.tensor([[0.1, 0.2, 4.0], [0.0, -0.3, 5.0]]).expand(2, -1, -1)
    before = field.query(points, "coarse")
    changed = field._replace(views=field.views._replace(maps=field.views.maps.clone()))
    changed.views.maps[:, -1] = 5.0
    for one, other in zip(before, changed.query(points, "coarse"), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_in_training_the_target_is_left_out_as_often_as_asked() -> None:
    model = denoiser(target_dropout=0.25).train()
    context = views_of(1, scenes=400)
    conditioning = model.condition(context, context.params)
    field = model(torch.randn(400, 1, 3, SIZE, SIZE), torch.full((400,), 500), conditioning)
    left_out = 400 - int(field.views.present[:, -1].sum())
    # Four standard deviations of a binomial count.
    assert abs(left_out - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5


def test_preconditioning_is_the_best_linear_denoiser_and_leaves_unit_variances() -> None:
    torch.manual_seed(0)
    process = CosineProcess()
    clean, noise = 0.5 * torch.randn(200_000), torch.randn(200_000)
    for level in (20, 300, 700):
        rates = process.rates(torch.tensor([level]), torch.zeros(1))
        factors = preconditioning(*rates)
        noisy = rates[0] * clean + rates[1] * noise
        # Least squares: the factor that predicts the clean from the noisy best, and what is left then.
        slope = (noisy * clean).mean() / noisy.square().mean()
        left = (clean - slope * noisy).std()
        assert factors.skip.item() == pytest.approx(slope.item(), abs=0.01)
        assert factors.out.item() == pytest.approx(left.item(), abs=0.01)
        assert (factors.into.item() * noisy.std()).item() == pytest.approx(1, abs=0.01)


def test_the_image_loss_weighs_errors_by_what_is_left_to_estimate() -> None:
    model = denoiser(image_weight=0.7)
    views = views_of(3)
    batch = Batch(*(select_views(views, slice(i, i + 1)) for i in range(3)), key=["a", "b"], truth={})
    conditioning = model.condition(batch.context, batch.target.params)
    for level, dropped in ((700, False), (700, True)):
        levels = torch.full((2,), level)
        field = model(torch.randn(2, 1, 3, SIZE, SIZE), levels, conditioning)
        if dropped:
            field = field._replace(views=field.views._replace(present=torch.zeros(2, 2, dtype=torch.bool)))
        term = model.auxiliary_losses(batch, levels, conditioning, field)["image"]
        signal_rate, noise_rate = CosineProcess().rates(levels, torch.zeros(2))
        out = preconditioning(signal_rate, noise_rate).out[0].item()
        colours = field.views.maps[:, 1, :, :, -3:].permute(0, 3, 1, 2) * 2 - 1
        error = (colours - batch.target.observation[:, 0]).square().mean()
        assert term.weight == 0.7
        expected = 0.0 if dropped else error.item() * 0.25 / out**2
        assert term.value.item() == pytest.approx(expected, rel=1e-4)
    assert denoiser(image_weight=0.0).auxiliary_losses(batch, levels, conditioning, field) == {}


def test_blurred_inputs_have_the_noise_of_means_and_unit_variance() -> None:
    torch.manual_seed(0)
    signal_rate, noise_rate = torch.tensor([0.0, 0.1, 1.0]), torch.tensor([1.0, 0.9, 0.0])
    constant = 0.5 * torch.randn(3, 2000, 3, 1, 1).expand(-1, -1, -1, 16, 16)
    noisy = signal_rate.view(3, 1, 1, 1, 1) * constant + noise_rate.view(3, 1, 1, 1, 1) * torch.randn_like(
        constant
    )
    rates = (rate.repeat_interleave(2000) for rate in (signal_rate, noise_rate))
    found = blurs(noisy.flatten(0, 1), *rates).unflatten(0, (3, 2000)).unflatten(2, (3, 3))
    # Of a constant image each pixel is the mean of a square's, or between several: in the corner exactly that.
    assert found[..., 0, 0].std(dim=(1, 3)).allclose(torch.ones(3, 3), atol=0.03)
    # Squares of 8 pixels average the noise of 64: there a faint constant is seen through the noise.
    faint = noisy[1].mean(dim=(2, 3))
    seen = [torch.corrcoef(torch.stack([found[1, :, scale, 0, 0, 0], faint[:, 0]]))[0, 1] for scale in range(3)]
    assert seen[0] < seen[1] < seen[2]


def test_blurred_inputs_change_nothing_at_first() -> None:
    sizes = {"volume_channels": 5, "decoder_width": 8, "condition_width": 12}
    plain = denoiser()
    grown = VolumeDenoiser(CUBE, 4, 4, [8, 8], 6, [8, 8], **sizes, blurred_inputs=True)
    grown.load_state_dict(plain.state_dict(), strict=False)
    grown.use_process(CosineProcess())
    context, noisy = views_of(2), torch.randn(2, 1, 3, SIZE, SIZE)
    torch.testing.assert_close(values(grown.eval(), context, noisy, 300), values(plain, context, noisy, 300))


def test_the_estimate_changes_nothing_at_first_and_something_later() -> None:
    plain = denoiser()
    sizes = {"volume_channels": 5, "decoder_width": 8, "condition_width": 12}
    grown = VolumeDenoiser(
        CUBE, 4, 4, [8, 8], 6, [8, 8], **sizes, estimate_renderer=estimate_renderer(), estimate_reduction=2
    )
    missing = grown.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing.missing_keys} == {"estimated"}
    grown.use_process(CosineProcess())
    context, noisy = views_of(2), torch.randn(2, 1, 3, SIZE, SIZE)
    expected = values(plain, context, noisy, 300)
    torch.testing.assert_close(values(grown.eval(), context, noisy, 300), expected)
    torch.nn.init.ones_(grown.estimated.features.weight)
    assert not torch.allclose(values(grown, context, noisy, 300), expected, atol=1e-3)


def test_the_estimate_is_the_deterministic_field_at_the_targets_camera() -> None:
    renderer = estimate_renderer()
    model = denoiser(estimate_renderer=renderer)
    context, target = views_of(2), select_views(views_of(3), slice(2, 3)).params
    estimate = model.condition(context, target).estimate
    rendered = renderer.observe(model.deterministic_field(context), target)
    expected = [rendered.observation, rendered.auxiliary.opacity, rendered.auxiliary.depth / 4.0]
    torch.testing.assert_close(estimate, torch.cat(expected, dim=2))
    assert not estimate.requires_grad


def test_one_convolution_can_take_the_estimate_from_the_noisy_image() -> None:
    """Of a noisy image whose clean one the estimate is, only the noise is left, at every resolution."""
    torch.manual_seed(0)
    signal_rate, noise_rate = torch.tensor([0.3, 0.9]), torch.tensor([1 - 0.09, 1 - 0.81]).sqrt()
    estimate = torch.randn(2, 5, 16, 16)
    shown = EstimateInput(21)
    with torch.no_grad():
        # One feature for each channel that the convolution is given.
        shown.features.weight[:, :, 1, 1] = torch.eye(17)[torch.arange(21) % 17]
        channels = shown(estimate, signal_rate, noise_rate)
    clean = signal_rate.view(-1, 1, 1, 1) * estimate[:, :3]
    into = preconditioning(signal_rate, noise_rate).into
    torch.testing.assert_close(channels[:, :5], estimate)
    torch.testing.assert_close(channels[:, 5:8], into * clean)
    torch.testing.assert_close(channels[:, 8:17], blurs(clean, signal_rate, noise_rate))


@pytest.mark.parametrize(
    ("scene_colours", "estimated", "looks"),
    [(0, False, 0), (3, False, 0), (3, True, 0), (0, True, 1), (3, True, 2)],
)
def test_trains_every_parameter(scene_colours: int, estimated: bool, looks: int) -> None:
    model = model_of(scene_colours, estimated, looks).train()
    batch = batch_of(2, 1)
    torch.manual_seed(1)
    terms = model.losses(batch)
    assert set(terms) == {"target", "novel", "image"} | ({"look"} if looks else set())
    sum(term.value * term.weight for term in terms.values()).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []


def test_samples_one_view_after_the_other_and_with_guidance() -> None:
    views = views_of(6, scenes=1)
    request = Request(select_views(views, slice(1)), views.params, ["a"])
    for scale, estimated, looks in ((1.0, False, 0), (1.5, True, 0), (1.5, True, 2)):
        model = model_of(0, estimated, looks, guidance_scale=scale, autoregressive_steps=2).eval()
        model.sampler.steps = 2
        drawn = list(model.predictions(request))
        assert [p.sample for p in drawn] == [0, 1]
        assert all(p.observation.isfinite().all() for p in drawn)
        assert not torch.allclose(drawn[0].observation, drawn[1].observation)


def looking() -> VolumeDenoiser:
    return denoiser(hidden_colours=2, estimate_renderer=estimate_renderer())


def test_the_estimate_shows_what_the_context_sees() -> None:
    """The field's feature is the share of light that misses the context: rendered beside the estimate's colour."""
    model, context = looking(), views_of(1)
    conditioning = model.condition(context, select_views(context.params, slice(1)))
    assert conditioning.estimate.shape[2] == 6
    field = model._without_target(conditioning)
    centre, corner = torch.tensor([[0.0, 0.0, 4.0]]), torch.tensor([[0.0, 9.0, 4.0]])
    points = torch.cat([centre * 0.2, centre, centre * 3, corner]).expand(2, -1, -1)
    hidden = field.query(points, "coarse").features[..., 0]
    # Nearer than the first shell nothing is hidden, then ever more, and beside the image all.
    assert (hidden[:, 0] == 0).all()
    assert (hidden[:, 0] < hidden[:, 1]).all()
    assert (hidden[:, 1] < hidden[:, 2]).all()
    assert (hidden[:, 3] == 1).all()


def test_hidden_points_can_take_the_colour_that_the_target_decides() -> None:
    """Told to choose a look where nothing is seen, points have its colour; without a target they have not."""
    model, context = looking(), views_of(1)
    with torch.no_grad():
        model.decoder.hidden_choice.weight.zero_()
        model.decoder.hidden_choice.weight[0, -1] = 1e4
        model.decoder.hidden_choice.bias.fill_(-1e3)
    noisy, rates = torch.randn(2, 3, SIZE, SIZE), (torch.full((2,), 0.6), torch.full((2,), 0.8))
    conditioning = model.condition(context, select_views(context.params, slice(1)))
    beside = torch.tensor([[0.0, 9.0, 4.0]]).expand(2, 1, 3)
    present = torch.tensor([True, False])
    field = model._field(noisy, rates, present, conditioning)
    colour = field.query(beside, "coarse").colour[:, 0]
    look = model.look(
        noisy, *rates, conditioning.estimate[:, 0], conditioning.summary, conditioning.places
    ).colours[:, 0]
    torch.testing.assert_close(colour[0], (look[0] * 0.5 + 0.5).clamp(0, 1))
    assert not torch.allclose(colour[1], (look[1] * 0.5 + 0.5).clamp(0, 1), atol=1e-3)


def test_a_summary_of_the_scene_changes_nothing_at_first() -> None:
    context, noisy = views_of(2), torch.randn(2, 1, 3, SIZE, SIZE)
    plain = denoiser()
    grown = VolumeDenoiser(
        CUBE, 4, 4, [8, 8], 6, [8, 8], volume_channels=5, decoder_width=8, condition_width=12, scene_colours=3
    )
    missing = grown.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert {name.split(".")[0] for name in missing.missing_keys} == {"whole", "decoder"}
    with torch.no_grad():
        grown.decoder.scene_choice.bias.fill_(-1e4)
    grown.use_process(CosineProcess())
    torch.testing.assert_close(values(grown.eval(), context, noisy, 300), values(plain, context, noisy, 300))


def test_the_summary_takes_nothing_from_a_target_that_is_not_there() -> None:
    model, context = denoiser(scene_colours=3), views_of(2)
    conditioning = model.condition(context, select_views(context.params, slice(1)))
    rates = torch.zeros(2), torch.ones(2)
    for present, alike in ((False, True), (True, False)):
        there = torch.full((2,), present)
        fields = [model._field(torch.randn(2, 3, SIZE, SIZE), rates, there, conditioning) for _ in range(2)]
        assert torch.allclose(fields[0].palette, fields[1].palette) is alike
        assert torch.allclose(fields[0].summary, fields[1].summary) is alike


@pytest.mark.parametrize(
    "settings",
    [
        {"target_dropout": 1.0},
        {"image_weight": -1.0},
        {"scene_colours": -1},
        {"hidden_colours": -1},
        {"hidden_colours": 1},
        {"estimate_reduction": 0},
        {"warm_start_noises": 0},
        {"image_noises": -1},
        {"estimate_renderer": estimate_renderer(fine_samples=2)},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        denoiser(**settings)


def test_the_process_is_no_child_of_the_denoiser() -> None:
    assert not any(isinstance(part, CosineProcess) for part in denoiser().modules())
    assert isinstance(denoiser(), nn.Module)


def test_a_process_that_scales_what_denoisers_are_given_is_refused() -> None:
    with pytest.raises(UserError, match="data_std"):
        denoiser().use_process(VarianceExploding(data_std=0.5))
    denoiser().use_process(VarianceExploding(data_std=None))


def test_steps_do_not_lay_the_grid_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, context = denoiser(), views_of(2)
    conditioning = model.condition(context, select_views(context.params, slice(1)))
    monkeypatch.setattr(CubeFrame, "points", None)
    model(torch.randn(2, 1, 3, SIZE, SIZE), torch.full((2,), 300), conditioning)


def test_cells_of_a_volume_with_three_sides_lie_where_points_read_them() -> None:
    model = denoiser(resolution=[6, 2, 4])
    assert model.cells.amax(dim=0).tolist() == pytest.approx([5.5 / 6, 1.5 / 2, 3.5 / 4])
    cubes = model._as_cubes(model.cells[None])
    assert cubes.shape == (1, 3, 4, 2, 6)
    read = lookup_volume(cubes.movedim(1, -1), model.cells[None])
    torch.testing.assert_close(read, model.cells[None])
    context = views_of(2)
    assert values(model, context, torch.randn(2, 1, 3, SIZE, SIZE), 300).isfinite().all()


@pytest.mark.parametrize("resolution", [5, [4, 4, 5], [4, 4], 0])
def test_impossible_volumes_are_refused(resolution: int | list[int]) -> None:
    with pytest.raises(ValueError, match="resolution"):
        denoiser(resolution=resolution)


def test_a_checkpoint_holds_no_grid() -> None:
    # It follows from the resolution, and a coarser or finer one is to be loaded as well.
    assert "cells" not in denoiser().state_dict()
