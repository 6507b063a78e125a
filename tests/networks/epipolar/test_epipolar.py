"""The epipolar feature transformer against SparseFusion's released code, and against what must hold of any."""

from typing import Any

import pytest
import torch
from sparsefusion_reference import PRECISIONS, check, reference, state_by_recipe
from torch import Tensor

from dfm_lightning.checkpoints.sparsefusion_layout import eft_sizes, name_eft
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.epipolar import EpipolarPoints, epipolar_points, pluecker, ray_grid
from dfm_lightning.networks.embeddings import harmonic_embedding
from dfm_lightning.networks.epipolar import ContextMaps, DepthRange, EpipolarTransformer, ResNetPyramid
from dfm_lightning.networks.epipolar.aggregation import EpipolarAggregation
from dfm_lightning.types import Cameras, Views

CASES = ("eft_2_contexts", "eft_3_contexts")


def points_of(case: dict[str, Any], values: dict[str, Any], dtype: torch.dtype) -> EpipolarPoints:
    size, grid = case["image_size"], case["grid"]
    query, contexts = values["query_camera"]["opencv"], values["context_cameras"]["opencv"]
    return epipolar_points(
        query["camera_to_world"].to(dtype),
        query["intrinsics_normalised"].to(dtype),
        ray_grid(grid, grid, size, size, at_corners=True).reshape(1, -1, 2).to(dtype),
        DepthRange(least=None).depths(values["mean_camera_distance"][None], 20),
        contexts["camera_to_world"][None].to(dtype),
        contexts["intrinsics_normalised"][None].to(dtype),
    )


def released_aggregation(case: dict[str, Any]) -> EpipolarAggregation:
    model = EpipolarAggregation(case["feature_channels"], case["width"])
    state = name_eft(case["state_dict"]).state
    model.load_state_dict({key.removeprefix("aggregation."): value for key, value in state.items()})
    return model.eval()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_encodings_are_the_released_ones(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["encodings"]
    inputs, expected = {k: v.to(dtype) for k, v in case["inputs"].items()}, case[precision]
    check(harmonic_embedding(inputs["x6"]), expected["harmonic6"], tolerance)
    check(harmonic_embedding(inputs["x1"]), expected["harmonic1"], tolerance)
    embedded = harmonic_embedding(pluecker(inputs["origins"], inputs["unit_directions"]))
    check(embedded, expected["plucker_embedded"], tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CASES)
def test_epipolar_points_are_the_released_ones(name: str, precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()[name]
    expected = case[precision]
    points = points_of(case, expected, dtype)
    check(points.directions[0], expected["directions"], tolerance)
    check(points.depths.expand(16, -1), expected["depths"], tolerance)
    check(1 - 2 * points.positions[0], expected["epipolar_ndc"], tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CASES)
def test_aggregation_is_the_released_one(name: str, precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()[name]
    expected = case[precision]
    model = released_aggregation(case).to(dtype)
    transformer = small_transformer(case["width"], corner_aligned=True)
    images, features = (case[key].to(dtype)[None] for key in ("context_images", "feature_map"))
    points = points_of(case, expected, dtype)
    unused = torch.zeros(1, 2, 4, 4)
    maps = ContextMaps(features, images, unused, unused[..., :3, :3], torch.zeros(1))
    seen = transformer.look_up(maps, points.positions)
    inputs: dict[str, Tensor] = {}
    for part in ("over_views_at_points", "over_depths", "over_views"):
        layer = getattr(model, part)
        layer.register_forward_pre_hook(lambda _, given, part=part: inputs.__setitem__(part, given[0]))
    result = model(seen, points)
    # b n d v, b v n d and b n v there; (context, ray, depth), (depth, context) of ray 0 and (context, ray) here.
    first = inputs["over_views_at_points"][0, :2].permute(2, 0, 1, 3)
    check(first, expected["t1_input_first_rays"], tolerance)
    check(inputs["over_depths"][0, :, 0].transpose(0, 1), expected["t2_input_ray0"], tolerance)
    check(inputs["over_views"][0].transpose(0, 1), expected["t3_input"], tolerance)
    check(result.depth_weights[0], expected["depth_weights"], tolerance)
    check(result.view_weights[0], expected["view_weights"], tolerance)
    check(result.colour[0], expected["rgb"], tolerance)
    check(result.features[0], expected["features"], tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pyramid_is_the_released_one(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case, keys = reference()["eft_pyramid"], reference()["eft_full_size"]["keys"]
    named = name_eft(state_by_recipe(keys, case["recipe_seed"])).state
    pyramid = ResNetPyramid().eval()
    pyramid.load_state_dict({k.removeprefix("pyramid."): v for k, v in named.items() if k.startswith("pyramid.")})
    with torch.no_grad():
        found = pyramid.to(dtype)(case["images"].to(dtype))
    expected, stride = case[precision], case["stride"]
    check(found.mean(dim=(0, 2, 3)), expected["mean"], tolerance)
    check(found[:, 5::32, ::stride, ::stride], expected["every_32nd_channel_strided"], tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_full_size_is_the_released_one(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["eft_full_size"]
    named = name_eft(state_by_recipe(case["keys"], case["recipe_seed"]))
    assert eft_sizes(named.state) == (256, 4, 6)
    unused = {key.split(".")[1] for keys in named.left_out.values() for key in keys}
    assert unused == {"layer4", "fc"}
    model = EpipolarTransformer(depth_range=DepthRange(least=None), corner_aligned=True).eval()
    model.load_state_dict(named.state)
    model = model.to(dtype)
    scene, query, size = case["scene"]["opencv"], case["query_index"], case["image_size"]
    pose, intrinsics = scene["camera_to_world"].to(dtype), scene["intrinsics_normalised"].to(dtype)
    chosen = case["context_index"]
    pixels = torch.zeros(1, len(chosen), size, size, 2)
    cameras = Cameras(pose[None, chosen], intrinsics[None, chosen], pose[None, chosen], pixels)
    images = case["context_images"][None].to(dtype)
    rays = ray_grid(case["grid"], case["grid"], size, size, True).reshape(1, -1, 2).to(dtype)
    with torch.no_grad():
        maps = model.encode(Views(2 * images - 1, cameras), pose[:, :3, 3].norm(dim=-1).mean()[None])
        found = model(maps, pose[None, query], intrinsics[None, query], rays)
    check(found.colour[0].view(4, 4, 3), case[precision]["rgb"], tolerance)
    check(found.features[0].view(4, 4, 256), case[precision]["features"], tolerance)


# --- what holds of any ------------------------------------------------------------------------------------------


def small_transformer(width: int = 8, **options: Any) -> EpipolarTransformer:
    torch.manual_seed(0)
    return EpipolarTransformer(ResNetPyramid(1), width=width, layers=1, depths=4, **options).eval()


def small_views(count: int, dtype: torch.dtype = torch.float64) -> Views:
    generator = torch.Generator().manual_seed(count)
    pose = torch.eye(4, dtype=dtype).repeat(1, count, 1, 1)
    pose[..., :3, 3] = 0.5 * torch.randn(1, count, 3, generator=generator, dtype=dtype)
    pose[..., 2, 3] -= 7
    intrinsics = torch.eye(3, dtype=dtype).repeat(1, count, 1, 1)
    intrinsics[..., :2, 2] = 0.5
    images = torch.rand(1, count, 3, 16, 16, generator=generator, dtype=dtype) * 2 - 1
    pixels = torch.zeros(1, count, 16, 16, 2, dtype=dtype)
    return Views(images, Cameras(pose, intrinsics, pose, pixels))


def predict(model: EpipolarTransformer, views: Views, query: int = 0) -> Tensor:
    cameras = views.params
    pixels = ray_grid(3, 3, 16, 16, False).reshape(1, -1, 2).to(cameras.intrinsics)
    result = model(model.encode(views), cameras.camera_to_world[:, query], cameras.intrinsics[:, query], pixels)
    return torch.cat([result.colour, result.features], dim=-1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_order_of_context_views_does_not_matter(count: int) -> None:
    model, views = small_transformer().double(), small_views(count)
    order = [*range(1, count), 0]
    cameras = Cameras(*(part[:, order] for part in views.params))
    swapped = Views(views.observation[:, order], cameras)
    found = predict(model, views)
    assert found.isfinite().all()
    check(predict(model, swapped, query=count - 1), found, 1e-12)


def test_the_world_of_the_cameras_does_not_matter() -> None:
    model, views = small_transformer().double(), small_views(3)
    turned, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3], world[:3, 3] = turned * torch.linalg.det(turned), torch.tensor([1.0, 2.0, -3.0])
    moved = views._replace(params=views.params._replace(camera_to_world=world @ views.params.camera_to_world))
    check(predict(model, moved), predict(model, views), 1e-9)


def test_pixels_are_read_where_they_are() -> None:
    views = small_views(1)
    model = small_transformer()
    centres = ray_grid(16, 16, 16, 16, False).view(1, 1, 256, 1, 2)
    maps = model.double().encode(views)
    read = model.look_up(maps, centres)[0, 0, :, 0, -3:]
    check(read.T.view(3, 16, 16), maps.images[0, 0], 1e-12)


def test_no_context_is_refused() -> None:
    with pytest.raises(UserError, match="one context view"):
        small_transformer().encode(small_views(0))


def test_cameras_near_the_origin_have_no_points_behind_them() -> None:
    distance = torch.tensor([2.0, 8.0])
    assert DepthRange().depths(distance, 5).amin() > 0
    assert DepthRange(least=None).depths(distance, 5)[0, 0] == -3
    torch.testing.assert_close(DepthRange(near=1.0, far=3.0).depths(distance, 3)[0], torch.tensor([1.0, 2.0, 3.0]))
    for wrong in ({"near": 1.0}, {"near": 3.0, "far": 1.0}):
        with pytest.raises(ValueError, match="near and far"):
            DepthRange(**wrong)


def test_an_unknown_tensor_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match=r"decoder\.weight"):
        name_eft({"decoder.weight": torch.zeros(1)})
