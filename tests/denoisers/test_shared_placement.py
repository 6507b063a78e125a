"""Evaluations of a sampling run that have their fine points at the same places."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from test_pixelnerf import FAR, NEAR, problem, renderer
from torch import Tensor

from dfm_lightning.denoisers.pixelnerf_field import PixelNeRFField
from dfm_lightning.diffusion import CosineProcess, ObservationDenoiser
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.forward_models.compositing import composite, compositing_weights
from dfm_lightning.forward_models.ray_sampling import importance_distances
from dfm_lightning.geometry.rays import ray_directions, ray_origins
from dfm_lightning.networks.radiance_mlp import RadianceMLP
from dfm_lightning.types import Cameras

LEVELS = [[900, 990], [600, 800], [300, 500], [100, 200]]


def evaluations(renderer: VolumeRendering, memory: float = 0, **settings: Any) -> tuple[list[Tensor], list[int]]:
    """Successive estimates of one run from ever less noise, and how many points of views each computed."""
    denoiser, context, target, noisy, _ = problem()
    denoiser.context_memory_mb = memory
    points: list[int] = []
    plain = RadianceMLP.per_view

    def counted(mlp: RadianceMLP, where: Tensor, *others: Tensor) -> Tensor:
        points.append(where.shape[1] * where.shape[2])
        return plain(mlp, where, *others)

    results, work = [], []
    with torch.no_grad(), patch.object(RadianceMLP, "per_view", counted):
        denoise = ObservationDenoiser(denoiser, renderer, context, target, **settings)
        for step, level in enumerate(LEVELS):
            points.clear()
            results.append(denoise(noisy * (1 - step / 3), torch.tensor(level)).clean)
            work.append(sum(points))
    return results, work


def rendered(placing: PixelNeRFField, shown: PixelNeRFField, target: Cameras) -> Tensor:
    """The image of a field at the fine points that another one has: by the formulas, all rays at once."""
    distances = torch.linspace(NEAR, FAR, 6, dtype=torch.float64)
    rays = ray_directions(target).flatten(1, 3), ray_origins(target)[:, :, None, None]
    directions, origins = rays[0], rays[1].expand_as(ray_directions(target)).flatten(1, 3)
    distances = distances.expand(*directions.shape[:2], -1)

    def at(distances: Tensor) -> Tensor:
        return (origins[:, :, None] + distances[..., None] * directions[:, :, None]).flatten(1, 2)

    density = placing.query(at(distances), "coarse").density.view_as(distances)
    fine = importance_distances(distances, compositing_weights(density, distances), 6, False)
    every = torch.cat([distances, fine], dim=-1).sort(dim=-1).values
    values = shown.query(at(every), "fine")
    weights = compositing_weights(values.density.view_as(every), every)
    colour = composite(weights, values.colour.unflatten(1, every.shape[1:]))
    return colour.view_as(ray_directions(target)).movedim(-1, 2) * 2 - 1


@pytest.mark.parametrize("memory", [0, 100])
def test_fine_points_stay_where_every_other_evaluation_has_placed_them(memory: float) -> None:
    found, _ = evaluations(renderer(evaluations_per_placement=2), memory)
    denoiser, context, target, noisy, _ = problem()
    with torch.no_grad():
        conditioning = denoiser.condition(context, target)
        fields = [
            denoiser(noisy * (1 - step / 3), torch.tensor(level), conditioning)
            for step, level in enumerate(LEVELS)
        ]
        expected = [rendered(fields[step - step % 2], field, target) for step, field in enumerate(fields)]
        exact = rendered(fields[1], fields[1], target)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    assert (exact - expected[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance_scale": 1.7, "guidance_space": "signal"},
        {"guidance_scale": 1.7, "guidance_space": "observation"},
    ],
)
def test_what_is_remembered_of_the_context_serves_at_all_points(settings: dict[str, Any]) -> None:
    plain, work = evaluations(renderer(evaluations_per_placement=2), **settings)
    quick, less = evaluations(renderer(evaluations_per_placement=2), 100, **settings)
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(other, one, atol=1e-9, rtol=0)
    # Two contexts and a target at 6 coarse points of the coarse MLP and 12 of the fine one; every other evaluation
    # at the latter alone. Of the contexts' share all is known then, otherwise that of the coarse points.
    assert [work[step] * 3 for step in (1, 3)] == [work[step] * 2 for step in (0, 2)]
    assert less[0] == work[0]
    assert [less[step] * 54 for step in (1, 2, 3)] == [work[0] * count for count in (12, 30, 12)]


def test_each_run_places_its_own_points() -> None:
    denoiser, context, target, noisy, _ = problem()
    sharing = renderer(evaluations_per_placement=5)
    levels = torch.tensor([900, 990]), torch.tensor([600, 800])
    with torch.no_grad():
        used, fresh = (ObservationDenoiser(denoiser, sharing, context, target) for _ in range(2))
        for level in levels:
            used(torch.randn_like(noisy), level)
        for level in levels:
            torch.testing.assert_close(used(noisy, level).clean, fresh(noisy, level).clean, atol=0, rtol=0)


def test_other_numbers_of_fine_points_are_placed_anew() -> None:
    process = CosineProcess()
    settings = {"noisy_fine_samples": 4}
    found, work = evaluations(renderer(evaluations_per_placement=8, **settings), process=process)
    exact, _ = evaluations(renderer(**settings), process=process)
    # The first two evaluations have more noise than signal; the third places the points of the rest.
    close = [bool((one - other).abs().max() < 1e-9) for one, other in zip(found, exact, strict=True)]
    assert close == [True, False, True, False]
    # A view's points of a ray: 6 + 10, 10 alone, 6 + 12, 12 alone.
    assert [count * 16 for count in work] == [work[0] * points for points in (16, 10, 18, 12)]


def test_gradients_go_through_both_passes() -> None:
    denoiser, context, target, noisy, level = problem()
    results = []
    for sharing in (renderer(evaluations_per_placement=2), renderer()):
        denoise = ObservationDenoiser(denoiser, sharing, context, target)
        denoise(noisy, torch.tensor([900, 990]))
        results.append(denoise(noisy / 2, level - 1).clean)
    torch.testing.assert_close(*results, atol=1e-9, rtol=0)


def test_skipped_light_needs_the_coarse_pass() -> None:
    with pytest.raises(ValueError, match="evaluations_per_placement"):
        VolumeRendering(evaluations_per_placement=2, skipped_light=0.1)
