from typing import Any
from unittest.mock import patch

import pytest
import torch
from known_fields import cameras_at
from torch import Tensor, nn

from dfm_lightning.denoisers import PixelNeRFDenoiser
from dfm_lightning.denoisers.rendered_estimate import enlarge, reduce_cameras
from dfm_lightning.diffusion import DDIM, CosineProcess, ObservationDenoiser
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.rays import ray_directions, ray_origins
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.networks.radiance_mlp import RadianceMLP
from dfm_lightning.types import Cameras, Views, concatenate, map_tensors, repeat_batch, select_views

SIZE = 8
NEAR, FAR = 0.5, 4.0


def small_denoiser(seed: int = 0, **settings: object) -> PixelNeRFDenoiser:
    torch.manual_seed(seed)
    encoder = ImageEncoder(16, 1, 2, 6, 3, 5, 4, absolute_pose=True)
    denoiser = PixelNeRFDenoiser(encoder, VolumeRendering(NEAR, FAR, 6, 0), mlp_width=8, octaves=2, **settings)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.3)
    return denoiser.double().eval()


def renderer(**settings: object) -> VolumeRendering:
    return VolumeRendering(**{"near": NEAR, "far": FAR, "coarse_samples": 6, "fine_samples": 6, **settings}).eval()


def views(positions: list[list[float]], batch: int = 2) -> Views:
    cameras = repeat_batch(cameras_at(positions, SIZE), batch)
    return Views(torch.randn(batch, len(positions), 3, SIZE, SIZE, dtype=torch.float64), cameras)


def problem() -> tuple[PixelNeRFDenoiser, Views, Cameras, Tensor, Tensor]:
    denoiser = small_denoiser()
    context, target = views([[0, 0, 0], [0.3, 0, 0]]), views([[0, 0.4, 0]])
    return denoiser, context, target.params, target.observation, torch.tensor([3, 900])


def points() -> Tensor:
    return torch.randn(2, 20, 3, dtype=torch.float64) + torch.tensor([0, 0, 2])


def test_the_estimate_is_the_rendering_of_the_deterministic_field() -> None:
    denoiser, context, target, _, _ = problem()
    estimate = denoiser.condition(context, target).estimate
    field = denoiser.deterministic_field(context)
    rendered = renderer(fine_samples=0).observe(field, target)
    details = rendered.auxiliary
    assert estimate.shape == (2, 1, 3 + 1 + 3, SIZE, SIZE)
    torch.testing.assert_close(estimate[:, :, :3], rendered.observation)
    torch.testing.assert_close(estimate[:, :, 3:4], details.depth)
    torch.testing.assert_close(estimate[:, :, 4:], details.features)
    assert len({id(field.coarse.mlp), id(field.fine.mlp)}) == 1


def test_a_reduced_estimate_is_rendered_in_the_middles_of_blocks_and_enlarged() -> None:
    context, target = views([[0, 0, 0]]), views([[0, 0.4, 0]]).params
    estimate = small_denoiser(estimate_reduction=2).condition(context, target).estimate
    middles = (torch.arange(SIZE // 2, dtype=torch.float64) + 0.5) / (SIZE // 2)
    pixels = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1).expand(2, 1, -1, -1, 2)
    small = small_denoiser().condition(context, target._replace(pixels=pixels)).estimate
    assert estimate.shape == (2, 1, 3 + 1 + 3, SIZE, SIZE)
    # Between the middles of four blocks, a pixel is a quarter of the way from one to the next along either side.
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    expected = torch.einsum("i,j,bvcij->bvc", weights, weights, small[..., 1:3, 1:3])
    torch.testing.assert_close(estimate[..., 3, 3], expected)
    with pytest.raises(UserError, match=r"estimate_reduction 3.*8×8"):
        small_denoiser(estimate_reduction=3).condition(context, target)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("times", [2, 4])
def test_a_reduced_estimate_lies_where_the_whole_one_does(aligned: bool, times: int) -> None:
    """An image that is linear in where its rays go is the same reduced and enlarged, whatever the convention."""
    cameras = cameras_at([[0.2, 0, 0]], 16)
    look = VolumeRendering(NEAR, FAR, 6, 0, corner_aligned=aligned).aligned

    def seen(cameras: Cameras) -> Tensor:
        directions = ray_directions(look(cameras))
        return (directions[..., :2] / directions[..., 2:]).movedim(-1, 2)

    expected, found = seen(cameras), enlarge(seen(reduce_cameras(cameras, times)), times, aligned)
    rim = 0 if aligned else times // 2
    inside = (..., slice(rim, 16 - rim), slice(rim, 16 - rim))
    torch.testing.assert_close(found[inside], expected[inside])
    # Beyond the middles of the outer blocks there is nothing to go by.
    assert aligned or torch.equal(found[..., 0, :, 0], found[..., 0, :, rim - 1])


def test_the_estimate_is_enlarged_as_its_renderer_places_pixels() -> None:
    """The first pixel of a corner-aligned view sees what the first of the reduced view does."""
    context, target = views([[0, 0, 0]]), views([[0, 0.4, 0]]).params
    estimates = []
    for times in (1, 2):
        denoiser = small_denoiser(estimate_reduction=times)
        denoiser.estimate_renderer.corner_aligned = True
        estimates.append(denoiser.condition(context, target).estimate)
    for row, column in ((0, 0), (0, -1), (-1, -1)):
        torch.testing.assert_close(estimates[0][..., row, column], estimates[1][..., row, column])
    with pytest.raises(UserError, match=r"estimate_reduction 8.*2×2"):
        small_denoiser(estimate_reduction=8).condition(context, target)


def test_the_signal_is_the_field_of_context_and_noisy_target_in_this_order() -> None:
    denoiser, context, target, noisy, level = problem()
    conditioning = denoiser.condition(context, target)
    signal = denoiser(noisy, level, conditioning)
    assert signal.intrinsics.shape[1] == 3
    poses = torch.cat([context.params.camera_to_world, target.camera_to_world], dim=1)
    torch.testing.assert_close(signal.world_to_camera @ poses, torch.eye(4).double().expand_as(poses))
    levels = torch.tensor([[0, 0, 3], [0, 0, 900]])
    torch.testing.assert_close(signal.fine.modulation, denoiser.fine_mlp.modulation(levels))
    torch.testing.assert_close(signal.coarse.modulation, denoiser.coarse_mlp.modulation(levels))
    maps = denoiser.encoder.encode_target(
        noisy[:, 0], conditioning.estimate[:, 0], level, target.absolute_pose[:, 0]
    )
    torch.testing.assert_close(
        signal.fine.projected_maps[:, 2], denoiser.fine_mlp.project_maps(maps[:, None])[:, 0]
    )


def test_colours_and_densities_are_possible_ones_and_the_stages_differ() -> None:
    denoiser, context, target, noisy, level = problem()
    signal = denoiser(noisy, level, denoiser.condition(context, target))
    where = points()
    coarse, fine = signal.query(where, "coarse"), signal.query(where, "fine")
    assert not torch.allclose(coarse.colour, fine.colour)
    assert fine.features.shape == (2, 20, 3)
    for values in (coarse, fine):
        assert (values.density >= 0).all()
        assert (values.colour > 0).all()
        assert (values.colour < 1).all()


def test_elements_of_a_batch_do_not_see_each_other_and_signals_are_trees() -> None:
    denoiser, context, target, noisy, level = problem()
    signal = denoiser(noisy, level, denoiser.condition(context, target))
    image = renderer()(signal, target)
    for row in range(2):
        one_context, one_target, one_noisy, one_level = map_tensors(
            lambda t, r=row: t[r : r + 1], (context, target, noisy, level)
        )
        alone = denoiser(one_noisy, one_level, denoiser.condition(one_context, one_target))
        torch.testing.assert_close(renderer()(alone, one_target)[0], image[row])
        half = denoiser.split_batch(signal)[row]
        torch.testing.assert_close(renderer()(half, one_target)[0], image[row])


def test_the_first_contexts_order_does_not_matter_but_each_counts() -> None:
    denoiser, context, target, noisy, level = problem()
    swapped = concatenate([select_views(context, slice(1, 2)), select_views(context, slice(0, 1))], dim=1)
    fewer = select_views(context, slice(0, 1))
    where = points()
    results = [
        denoiser(noisy, level, denoiser.condition(part, target)).query(where, "fine").colour
        for part in (context, swapped, fewer)
    ]
    torch.testing.assert_close(results[0], results[1])
    assert not torch.allclose(results[0], results[2])


def test_points_behind_a_camera_have_no_features_of_it_unless_wanted() -> None:
    behind = torch.tensor([[[0.1, 0.2, -3.0]]], dtype=torch.float64)
    colours = {}
    for project_behind in (False, True):
        denoiser = small_denoiser(project_behind=project_behind)
        torch.manual_seed(1)
        for image in ("one", "other"):
            context = views([[0, 0, 0]], batch=1)
            colours[project_behind, image] = denoiser.deterministic_field(context).query(behind, "fine").colour
    torch.testing.assert_close(colours[False, "one"], colours[False, "other"])
    assert not torch.allclose(colours[True, "one"], colours[True, "other"])


def test_a_view_reads_the_features_that_its_own_intrinsics_point_at() -> None:
    """Stretching image and intrinsics of one view together moves features only as far as interpolation does."""
    denoiser = small_denoiser()
    maps = torch.linspace(0, 1, SIZE, dtype=torch.float64)[None, None, None, :, None].expand(1, 1, SIZE, SIZE, 6)
    cameras = cameras_at([[0, 0, 0]], SIZE)
    wide = cameras._replace(intrinsics=cameras.intrinsics.clone())
    wide.intrinsics[..., 0, 0] *= 2
    x = torch.tensor([[[0.1, 0.0, 1.0], [0.2, 0.0, 1.0]]], dtype=torch.float64)
    network = denoiser.deterministic_mlp
    nn.init.zeros_(network.position_in.weight)
    fields = [denoiser._field(network, network, maps, part) for part in (cameras, wide)]
    narrow_colour, wide_colour = (field.query(x, "coarse").colour[0] for field in fields)
    torch.testing.assert_close(narrow_colour[1], wide_colour[0])
    assert not torch.allclose(narrow_colour[0], wide_colour[0])


def test_context_is_encoded_once_whatever_the_number_of_steps() -> None:
    denoiser, context, target, noisy, _ = problem()
    context, target = map_tensors(lambda t: t[:1], (context, target))
    for steps in (1, 4):
        with (
            patch.object(denoiser, "condition", wraps=denoiser.condition) as condition,
            patch.object(
                denoiser.encoder, "encode_context", wraps=denoiser.encoder.encode_context
            ) as context_calls,
            patch.object(denoiser.encoder, "encode_target", wraps=denoiser.encoder.encode_target) as target_calls,
            torch.no_grad(),
        ):
            denoise = ObservationDenoiser(denoiser, renderer(), context, target, samples=2, guidance_scale=2.0)
            process = CosineProcess()
            list(DDIM(steps).sample(denoise, noisy, process, lambda: noisy))
        assert condition.call_count == context_calls.call_count == 1
        assert target_calls.call_count == steps


def test_guidance_doubles_the_noisy_branch_and_no_more() -> None:
    """Batches of the encoder, and points that the networks are asked for, in a sampling run of three steps."""
    denoiser, context, target, noisy, _ = problem()
    encoded: dict[float, list[int]] = {}
    asked: dict[float, int] = {}
    estimated: dict[float, int] = {}
    for scale in (1.0, 2.5):
        counts = {"joint": 0, "deterministic": 0}

        def count(mlp: RadianceMLP, name: str, counts: dict[str, int] = counts) -> Any:
            def counted(points: Tensor, *others: Tensor) -> Tensor:
                counts[name] += points[..., 0].numel()
                return RadianceMLP.per_view(mlp, points, *others)

            return patch.object(mlp, "per_view", counted)

        with (
            patch.object(denoiser.encoder, "encode_target", wraps=denoiser.encoder.encode_target) as calls,
            count(denoiser.coarse_mlp, "joint"),
            count(denoiser.fine_mlp, "joint"),
            count(denoiser.deterministic_mlp, "deterministic"),
            torch.no_grad(),
        ):
            denoise = ObservationDenoiser(denoiser, renderer(), context, target, guidance_scale=scale)
            list(DDIM(3).sample(denoise, noisy, CosineProcess(), lambda: noisy))
        encoded[scale] = [len(call.args[0]) for call in calls.call_args_list]
        asked[scale], estimated[scale] = counts["joint"], counts["deterministic"]
    assert encoded == {1.0: [2, 2, 2], 2.5: [4, 4, 4]}, "both branches in one batch"
    assert asked[2.5] == 2 * asked[1.0]
    assert estimated[2.5] == 2 * estimated[1.0], "once for the whole run"
    assert asked[1.0] > estimated[1.0] > 0


def test_a_guided_sample_is_a_scene_whose_rendering_is_the_guided_observation() -> None:
    denoiser, context, target, noisy, level = problem()
    denoise = ObservationDenoiser(denoiser, renderer(), context, target, guidance_scale=3.0)
    with torch.no_grad():
        observation, signal = denoise(noisy, level)
        torch.testing.assert_close(renderer()(signal, target), observation)
        unguided = ObservationDenoiser(denoiser, renderer(), context, target)
        assert not torch.allclose(unguided(noisy, level).clean, observation)


def test_unconditional_means_grey_images_with_their_cameras() -> None:
    denoiser, context, *_ = problem()
    dropped = denoiser.drop_context(context)
    assert not dropped.observation.any()
    assert all(torch.equal(*pair) for pair in zip(dropped.params, context.params, strict=True))


def test_gradients_of_the_whole_are_those_of_finite_differences() -> None:
    """Along a random direction in parameter space, with the points of the fine pass held still."""
    denoiser, context, target, noisy, level = problem()
    origins = ray_origins(target)[:, :, None, None]
    where = (origins + 2.0 * ray_directions(target)).flatten(1, 3)

    def loss() -> Tensor:
        conditioning = denoiser.condition(context, target)
        signal = denoiser(noisy, level, conditioning)
        values = [signal.query(where, stage) for stage in ("coarse", "fine")]
        return sum(
            (part.square().mean() for value in values for part in value), conditioning.estimate.square().mean()
        )

    parameters = list(denoiser.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    torch.manual_seed(3)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    expected = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    with torch.no_grad():
        ends = []
        for step in (1e-6, -2e-6):
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += step * along
            ends.append(loss())
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, expected, rtol=1e-5, atol=1e-6)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_mixed_precision_keeps_rendering_in_float32_and_near_the_truth() -> None:
    denoiser, context, target, noisy, level = map_tensors(
        lambda t: t.float() if t.is_floating_point() else t, problem()
    )
    denoiser = denoiser.float()
    images = []
    for mixed in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed), torch.no_grad():
            signal = denoiser(noisy, level, denoiser.condition(context, target))
            images.append(renderer()(signal, target))
            if mixed:
                assert signal.fine.projected_maps.dtype == torch.bfloat16, "networks run in low precision"
    assert images[1].dtype == torch.float32
    assert 0 < (images[0] - images[1]).abs().mean() < 0.05


def test_fine_samples_in_the_estimate_are_refused() -> None:
    encoder = ImageEncoder(16, 1, 2, 6, 3, 5, 4)
    with pytest.raises(ValueError, match=r"fine_samples.*\b4\b"):
        PixelNeRFDenoiser(encoder, VolumeRendering(NEAR, FAR, 6, 4))


def test_corner_alignment_of_the_estimate_renderer_holds_for_the_lookup_too() -> None:
    aligned = small_denoiser()
    aligned.estimate_renderer = VolumeRendering(NEAR, FAR, 6, 0, corner_aligned=True).eval()
    context = views([[0, 0, 0]])
    intrinsics = aligned.deterministic_field(context).intrinsics
    corner = intrinsics @ torch.tensor([0, 0, 1.0]).double()
    plain = context.params.intrinsics @ torch.tensor([0, 0, 1.0]).double()
    # A position p in corner-aligned coordinates is (p (N − 1) + ½) / N in pixel centres.
    torch.testing.assert_close(corner[..., :2], (plain[..., :2] * (SIZE - 1) + 0.5) / SIZE)


# --- conventions ------------------------------------------------------------------------------------------


def test_the_estimate_is_rendered_by_the_conventions_of_the_forward_model() -> None:
    conventions = VolumeRendering(1.5, 6.0, background=(0.2, 0.4, 0.6), corner_aligned=True)
    estimate = VolumeRendering(coarse_samples=6, fine_samples=0)
    estimate.share(conventions, "denoiser.estimate_renderer")
    found = (estimate.near, estimate.far, estimate.background, estimate.corner_aligned)
    assert found == (1.5, 6.0, (0.2, 0.4, 0.6), True)
    estimate.share(VolumeRendering(1.0, 6.0), "denoiser.estimate_renderer")  # it has none of its own
    assert (estimate.near, estimate.background, estimate.corner_aligned) == (1.0, (0.0, 0.0, 0.0), False)


@pytest.mark.parametrize(
    "given", [{"near": 1.0}, {"far": 7.0}, {"background": (0.0, 0.0, 0.0)}, {"corner_aligned": False}], ids=str
)
def test_conventions_that_disagree_are_refused(given: dict[str, Any]) -> None:
    conventions = VolumeRendering(1.5, 6.0, background=(1.0, 1.0, 1.0), corner_aligned=True)
    (name,) = given
    with pytest.raises(UserError, match=rf"part\.{name}"):
        VolumeRendering(**given).share(conventions, "part")


@pytest.mark.parametrize(
    ("ends", "lacking"), [({}, "near and far"), ({"near": 1.0}, "far"), ({"far": 1.0}, "near")]
)
def test_a_renderer_without_ends_is_refused(ends: dict[str, float], lacking: str) -> None:
    with pytest.raises(UserError, match=lacking):
        VolumeRendering(**ends).require_ends()
