"""The context's share of the MLPs, computed once: the same estimates, with less work."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from test_pixelnerf import problem, renderer
from torch import Tensor

from dfm_lightning.denoisers.remembered_context import ContextMemory
from dfm_lightning.diffusion import ObservationDenoiser
from dfm_lightning.networks.radiance_mlp import RadianceMLP


def estimates(memory: float, **settings: Any) -> tuple[list[Tensor], list[int]]:
    """Three evaluations of different noise and levels in one run, and how many points of views each computed."""
    denoiser, context, target, noisy, level = problem()
    denoiser.context_memory_mb = memory
    points: list[int] = []
    plain = RadianceMLP.per_view

    def counted(mlp: RadianceMLP, where: Tensor, *others: Tensor) -> Tensor:
        points.append(where.shape[1] * where.shape[2])
        return plain(mlp, where, *others)

    results, work = [], []
    with torch.no_grad(), patch.object(RadianceMLP, "per_view", counted):
        denoise = ObservationDenoiser(denoiser, renderer(), context, target, **settings)
        for step in range(3):
            points.clear()
            results.append(denoise(noisy * (1 - step / 3), level - step).clean)
            work.append(sum(points))
    return results, work


GUIDANCE = [
    {},
    {"guidance_scale": 1.7, "guidance_space": "signal"},
    {"guidance_scale": 1.7, "guidance_space": "observation"},
]


@pytest.mark.parametrize("settings", GUIDANCE)
def test_estimates_are_those_of_the_plain_path(settings: dict[str, Any]) -> None:
    plain, work = estimates(0, **settings)
    quick, less = estimates(100, **settings)
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(other, one, atol=1e-9, rtol=0)
    assert (plain[0] - plain[1]).abs().max() > 1e-3
    # Two contexts and a target, 6 coarse points for the coarse MLP, 6 + 6 for the fine one: of 3 · 18 points of
    # views, 2 · 12 are known from the first evaluation on.
    assert less[0] == work[0]
    assert less[1] * 54 == work[1] * 30
    assert less[2] == less[1]


def test_what_does_not_fit_is_computed_each_time() -> None:
    plain, work = estimates(0)
    some, less = estimates(0.05)
    torch.testing.assert_close(some[2], plain[2], atol=1e-9, rtol=0)
    assert less[2] * 54 > work[2] * 30


def test_other_points_are_not_taken_for_known_ones_and_replace_them() -> None:
    points = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    sums = torch.ones(1, 5, 2)
    # Room for one set of points and sums in float32.
    memory = ContextMemory(4 * (15 + 10))
    memory.store(points, "coarse", ("coarse", 0), sums)
    others = points.clone()
    others[0, 2, 1] += 1e-6
    assert memory.find(points, "coarse", ("coarse", 0)) is not None
    assert memory.find(points, "fine", ("coarse", 0)) is None
    assert memory.find(points, "coarse", ("fine", 0)) is None
    assert memory.find(points, "coarse", ("coarse", 5)) is None
    assert memory.find(others, "coarse", ("coarse", 0)) is None
    assert memory.find(points[:, :3], "coarse", ("coarse", 0)) is None
    memory.store(points, "fine", ("coarse", 0), sums)
    assert memory.find(points, "fine", ("coarse", 0)) is None
    memory.store(others, "coarse", ("coarse", 0), 2 * sums)
    found = memory.find(others, "coarse", ("coarse", 0))
    assert found is not None
    assert torch.equal(found, 2 * sums)
    assert memory.find(points, "coarse", ("coarse", 0)) is None
