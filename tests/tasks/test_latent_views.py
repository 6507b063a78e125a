"""Epipolar views, latent views and distilled scenes: training, drawing, and distillations that go on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.networks.epipolar import EpipolarTransformer, ResNetPyramid
from dfm_lightning.networks.grid_encoding import GridEncoding
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.networks.latent_codec import SmallCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.randomness import with_seed
from dfm_lightning.tasks import Distillation, DistilledScenes, EpipolarViews, LatentViews
from dfm_lightning.types import Batch, Request, Views, map_tensors

SIZE = 16


def views(count: int, seed: int = 0) -> Views:
    """A bright disc seen from around it, before black; a batch of one."""
    angle = torch.arange(count) / max(count, 6) * 6.28
    away = torch.stack([angle.cos(), angle.sin(), 0.3 + 0 * angle], dim=1) * 6
    poses = look_at(away, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    intrinsics = torch.tensor([[1.5, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]]).expand(count, 3, 3)
    cameras = build_cameras(poses, intrinsics, poses[0], SIZE, SIZE)
    inside = (cameras.pixels - 0.5).norm(dim=-1) < 0.3
    images = torch.where(inside[:, None], torch.tensor([0.8, 0.2, -0.4])[:, None, None], -1.0)
    return map_tensors(lambda t: t[None].float(), Views(images, cameras))


def batch(contexts: int = 2) -> Batch:
    seen = views(contexts + 2)
    parts = [slice(0, contexts), slice(contexts, contexts + 1), slice(contexts + 1, None)]
    context, target, novel = (map_tensors(lambda t, p=part: t[:, p], seen) for part in parts)
    return Batch(context, target, novel, ["disc"], {})


def transformer() -> EpipolarTransformer:
    return EpipolarTransformer(ResNetPyramid(1), width=8, layers=1, depths=4, octaves=2)


def parts() -> dict[str, Any]:
    unet = LatentUNet(8, 2, 8, (1, 2), 1, (False, True), 2, 4, 2, 4)
    return {
        "transformer": transformer(),
        "unet": unet,
        "codec": SmallCodec(2, 8, 1),
        "rays": 8,
        "sampling_steps": 3,
    }


def distilled(folder: Path | None = None, **settings: Any) -> DistilledScenes:
    torch.manual_seed(0)
    constants: dict[str, Any] = {
        "iterations": 6, "bootstrap": 2, "most_steps": 3, "perceptual": "pyramid", "render_size": 8,
        "ring_cameras": 3, "save_every": 2, "report_every": 3, "folder": None if folder is None else str(folder),
    }  # fmt: skip
    field = GridField(GridEncoding(2, 2, 2, 8, 8), width=8)
    renderer = VolumeRendering(0.1, 20.0, 6, 6)
    model = DistilledScenes(field, renderer, Distillation(**{**constants, **settings}), **parts())
    torch.nn.init.normal_(model.unet.output.weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("contexts", [1, 2, 5])
def test_epipolar_views_learn_and_draw(contexts: int) -> None:
    torch.manual_seed(0)
    model = EpipolarViews(transformer(), rays=8)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    data, errors = batch(contexts), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.losses(data)["colour"].value
        loss.backward()
        optimizer.step()
        errors.append(float(loss))
    assert errors[-1] < errors[0] / 2
    [drawn] = model.draw(data.context, data.target.params)
    assert drawn.observation.shape == (1, 3, SIZE, SIZE)
    assert drawn.signal.depth.min() > 0


def test_depths_are_distances_along_the_rays() -> None:
    torch.manual_seed(0)
    model, data = EpipolarViews(transformer(), rays=8).eval(), batch()
    cameras = map_tensors(lambda t: torch.cat([t, t], dim=1), data.target.params)
    focal, centre = torch.tensor([1.5, 0.7]), torch.tensor([0.4, 0.6])
    cameras.intrinsics[:, 1, 0, 0], cameras.intrinsics[:, 1, 1, 1] = focal
    cameras.intrinsics[:, 1, :2, 2] = centre
    maps = model.transformer.encode(data.context)
    with torch.no_grad():
        seen = model.render_estimate(maps, cameras).depth[0, 1, 0]
        found = model.features(maps, cameras, 1, cameras.pixels[:, 1].flatten(1, 2))
    # The mean depth along the camera's axis, and how much longer a pixel's ray is by Pythagoras.
    depths = model.transformer.depth_range.depths(maps.distance, model.transformer.aggregation.depths)
    mean = torch.einsum("bvnd,bvn,bd->bn", found.depth_weights, found.view_weights, depths)
    across = (cameras.pixels[0, 1] - centre) / focal
    longer = (1 + across.square().sum(dim=-1)).sqrt()
    assert longer.max() > 1.1
    torch.testing.assert_close(seen, mean.view(SIZE, SIZE) * longer)


def test_terms_of_a_training_step_are_kept_by_name() -> None:
    torch.manual_seed(0)
    model, data = LatentViews(**parts()), batch()
    model.training_step(data, 0)
    assert set(model.training_terms) == {"colour", "codec", "diffusion"}
    assert not any(term.requires_grad for term in model.training_terms.values())


def test_training_targets_are_the_pixels_where_rays_and_pixels_agree() -> None:
    model, data = EpipolarViews(transformer(), rays=SIZE), batch()
    targets = model.ray_targets(data.target)
    expected = (data.target.observation[0, 0].flatten(1).T + 1) / 2
    torch.testing.assert_close(targets.colour[0], expected)
    corners = EpipolarViews(transformer(), rays=4, rays_at_corners=True).ray_targets(data.target)
    torch.testing.assert_close(corners.pixels[0, 0], torch.full((2,), 0.5 / SIZE))


def test_latent_views_train_each_part_by_its_own_loss() -> None:
    torch.manual_seed(0)
    model = LatentViews(**parts(), copies=3)
    torch.nn.init.normal_(model.unet.output.weight)
    terms = model.losses(batch())
    assert set(terms) == {"colour", "codec", "diffusion"}
    terms["diffusion"].value.backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in model.codec.parameters())
    assert model.transformer.aggregation.colour.weight.grad is None
    assert model.transformer.aggregation.over_views.entry[0].weight.grad.any()
    # A codec that is not trained has a gradient of zero, for processes that train together.
    assert not changed_parts(model)


def changed_parts(model: LatentViews) -> set[str]:
    """The parts of a codec that its loss has a gradient for; every parameter has one, perhaps of zeros."""
    model.zero_grad()
    model.losses(batch())["codec"].value.backward()
    gradients = {name: parameter.grad for name, parameter in model.codec.named_parameters()}
    assert None not in gradients.values()
    return {name.split(".")[0] for name, gradient in gradients.items() if gradient is not None and gradient.any()}


def test_a_codec_learns_first_then_its_decoder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = LatentViews(**parts(), codec_steps=5)
    monkeypatch.setattr(LatentViews, "global_step", 4)
    first = model.losses(batch())
    assert (first["codec"].weight, first["diffusion"].weight) == (1, 0)
    assert changed_parts(model) == {"encoder", "decoder", "patch_in", "patch_out"}
    monkeypatch.setattr(LatentViews, "global_step", 5)
    assert model.losses(batch())["diffusion"].weight == 1
    assert changed_parts(model) == {"decoder", "patch_out"}


def test_a_small_codec_begins_with_a_thumbnail() -> None:
    codec, images = SmallCodec(4, 4, 2), torch.rand(2, 3, 16, 16) * 2 - 1
    mean = images.unflatten(3, (4, 4)).unflatten(2, (4, 4)).mean(dim=(3, 5))
    expected = (3 * torch.tanh(1.5 * mean / 3) / 1.5).repeat_interleave(4, 2).repeat_interleave(4, 3)
    latents = codec.encode(images)
    torch.testing.assert_close(codec.decode(latents), expected)
    assert latents[:, 3].any()


def test_dropped_conditions_are_zeros() -> None:
    torch.manual_seed(0)
    model, given = LatentViews(**parts(), condition_dropout=1.0, copies=2), []
    model.unet.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    model.diffusion_loss(torch.randn(1, 2, 8, 8), torch.randn(1, 8, 8, 8))
    assert not given[0].any()


def test_what_lies_outside_the_targets_picture_is_not_learnt() -> None:
    torch.manual_seed(0)
    model, data = LatentViews(**parts()), batch(2)
    torch.nn.init.normal_(model.unet.output.weight)
    # Two context views, of which training may leave one out, the target, a novel view; latents are of 2×2 pixels.
    valid = torch.ones(1, 4, 1, SIZE, SIZE)
    valid[:, 2, :, :, SIZE // 2 :] = 0

    def error(valid: Tensor, contexts: int) -> Tensor:
        kept = data._replace(context=map_tensors(lambda t: t[:, :contexts], data.context), truth={"valid": valid})
        torch.manual_seed(1)
        return model.losses(kept)["diffusion"].value

    for contexts in (1, 2):
        whole, half = error(torch.ones_like(valid), contexts), error(valid, contexts)
        other = error(1 - valid, contexts)
        assert 0 < half < whole
        torch.testing.assert_close(half + other, whole)


def test_samples_are_a_function_of_seed_and_name() -> None:
    torch.manual_seed(0)
    model = LatentViews(**parts(), samples=2).eval()
    torch.nn.init.normal_(model.unet.output.weight)
    data = batch()
    first, second = model.draw(data.context, data.target.params, samples=2)
    again, _ = model.draw(data.context, data.target.params, samples=2)
    other, _ = model.draw(data.context, data.target.params, samples=2, seed=5)
    torch.testing.assert_close(first.observation, again.observation)
    assert not torch.equal(first.observation, second.observation)
    assert not torch.equal(first.observation, other.observation)


def test_latents_of_another_size_are_refused() -> None:
    model = LatentViews(**{**parts(), "rays": 4})
    with pytest.raises(UserError, match="image_size"):
        model.losses(batch())


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("targets", ["mode", "samples", "estimate"])
def test_an_interrupted_distillation_gives_the_same_field(tmp_path: Path, targets: str) -> None:
    data = batch()
    whole = distilled(targets=targets).distil("disc", data.context, 0, None)
    model, seen = distilled(tmp_path, targets=targets), []

    def stop(pieces: int) -> None:
        seen.append(pieces)
        if len(seen) == 3 + 1 + 3:  # ring, beginning, three iterations
            raise StoppedError

    withdraw = model.plan.follow(stop)
    with pytest.raises(StoppedError):
        model.draw(data.context, data.target.params, keys=["disc"])
    withdraw()
    assert len(list(tmp_path.rglob("*.pt"))) == 1
    [drawn] = distilled(tmp_path, targets=targets).draw(data.context, data.target.params, keys=["disc"])
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(drawn.signal.field.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("changed", ["jitter", "guidance_scale", "clip", "seed", "weights", "views"])
def test_a_state_of_other_settings_is_refused_by_name(tmp_path: Path, changed: str) -> None:
    data = batch()
    distilled(tmp_path).distil("disc", data.context, 0, None)
    model, context, seed = distilled(tmp_path), data.context, 0
    if changed == "jitter":
        model = distilled(tmp_path, jitter=0.1)
    elif changed == "seed":
        seed = 5
    elif changed == "weights":
        model.unet.output.weight.data += 1
    elif changed == "views":
        context = context._replace(observation=context.observation * 0.9)
    else:
        setattr(model, changed, 0.5)
    with pytest.raises(UserError, match=rf"state_00\.pt.*\b{changed}: "), with_seed(seed):
        model.distil("disc", context, 0, None)


def test_where_and_how_often_a_distillation_is_stored_makes_no_difference(tmp_path: Path) -> None:
    data = batch()
    before, model = distilled(tmp_path, save_every=2), distilled(tmp_path, save_every=1, report_every=1)
    first = before.distil("disc", data.context, 0, None)
    second = model.distil("disc", data.context, 0, None)
    assert torch.equal(first.grid.table, second.grid.table)
    model.distillation.folder = "elsewhere"
    assert model.settings() == before.settings()


@pytest.mark.parametrize(
    "settings", [{"loss_space": "latent"}, {"most_steps": 1}, {"perceptual": "none"}, {"squared": True}]
)
def test_ablations_change_the_field(settings: dict[str, Any]) -> None:
    data = batch()
    fields = [distilled(**given).distil("disc", data.context, 0, None) for given in ({}, settings)]
    assert not torch.equal(fields[0].grid.table, fields[1].grid.table)


def test_bootstrapping_finds_the_input_views() -> None:
    data = batch()
    model = distilled(iterations=150, bootstrap=150, grid_rate=2e-2, mlp_rate=5e-3)

    def error(field: GridField) -> float:
        seen = model.render(field, data.context.params).image
        return float((seen - data.context.observation).square().mean())

    field = model.distil("disc", data.context, 0, None)
    # The transformer's images, which have learnt nothing here, pull as much as the views.
    assert error(field) < 0.5 * error(distilled(iterations=1).distil("disc", data.context, 0, None))


@pytest.mark.parametrize("contexts", [1, 7])
def test_any_number_of_input_views_is_distilled(contexts: int) -> None:
    data = batch(contexts)
    [drawn] = distilled().draw(data.context, data.target.params)
    assert drawn.observation.isfinite().all()


def test_a_camera_in_the_object_and_views_without_masks_are_distilled() -> None:
    data = batch()
    bright = data.context._replace(observation=torch.rand(1, 2, 3, SIZE, SIZE))
    near = bright.params.camera_to_world.clone()
    absolute = bright.params.absolute_pose.clone()
    absolute[..., :3, 3] *= 0.01
    near[:, 1, :3, 3] *= 0.01
    inside = bright._replace(params=bright.params._replace(camera_to_world=near, absolute_pose=absolute))
    for context in (bright, inside):
        [drawn] = distilled().draw(context, data.target.params)
        assert drawn.observation.isfinite().all()


def test_an_empty_mask_is_refused_by_the_scene() -> None:
    data = batch()
    black = data.context._replace(observation=torch.full_like(data.context.observation, -1.0))
    with pytest.raises(UserError, match=r"disc.*black"):
        distilled().draw(black, data.target.params, keys=["disc"])


def test_test_cameras_take_part_only_as_released() -> None:
    data = batch()
    used: list[Tensor] = []
    for as_released in (False, True):
        model = distilled(as_released=as_released)
        counted: list[int] = []
        withdraw = model.plan.follow(counted.append)
        model.draw_views("disc", data.context, data.target.params, 0, "test")
        withdraw()
        used.append(torch.tensor(sum(counted)))
    assert int(used[1] - used[0]) == 1


def test_work_is_what_is_told() -> None:
    data = batch()
    for model in (EpipolarViews(transformer(), rays=8), LatentViews(**parts()), distilled()):
        told: list[int] = []
        model.plan.follow(told.append)
        list(model.predictions(Request(data.context, data.novel.params, ["disc"])))
        assert sum(told) == model.work(Request(data.context, data.novel.params, ["disc"]))
        told.clear()
        model.test_step(data, 0)
        assert sum(told) == model.work(data)
