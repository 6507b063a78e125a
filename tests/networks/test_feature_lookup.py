import pytest
import torch
from torch.nn import functional as F

from dfm_lightning.networks.feature_lookup import lookup_features


def sampled_by_grid(maps: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    views = maps.flatten(0, 1).permute(0, 3, 1, 2)
    grid = positions.flatten(0, 1)[:, None] * 2 - 1
    found = F.grid_sample(views, grid, padding_mode="border", align_corners=False)
    return found[:, :, 0].mT.unflatten(0, maps.shape[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lookup_agrees_with_grid_sample_inside_and_outside(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 5, 7, 4, dtype=dtype)
    positions = torch.rand(2, 3, 200, 2, dtype=dtype) * 1.6 - 0.3
    positions[0, 0, :4] = torch.tensor([[0, 0], [1, 1], [1e6, -1e6], [0.5, 1]], dtype=dtype)
    torch.testing.assert_close(lookup_features(maps, positions), sampled_by_grid(maps, positions))


def test_a_pixel_centre_gives_the_pixel() -> None:
    maps = torch.randn(1, 1, 4, 8, 3)
    found = lookup_features(maps, torch.tensor([[[[(5 + 0.5) / 8, (2 + 0.5) / 4]]]]))
    torch.testing.assert_close(found[0, 0, 0], maps[0, 0, 2, 5])


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    positions = torch.rand(1, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lookup_features, (maps, positions))


def test_what_is_not_seen_has_no_features() -> None:
    maps = torch.ones(1, 1, 2, 2, 3)
    seen = torch.tensor([[[True, False]]])
    found = lookup_features(maps, torch.full((1, 1, 2, 2), 0.4), seen)
    torch.testing.assert_close(found[0, 0], torch.tensor([[1.0] * 3, [0.0] * 3]))


def test_maps_too_small_to_interpolate_are_refused() -> None:
    with pytest.raises(ValueError, match="1×2"):
        lookup_features(torch.zeros(1, 1, 1, 2, 3), torch.zeros(1, 1, 1, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_more_than_rounding_does(dtype: torch.dtype) -> None:
    """A cell that hundreds of points read has the sum of their gradients, added in more digits than it has."""
    torch.manual_seed(0)
    maps, positions = torch.randn(1, 1, 4, 4, 3).to(dtype), torch.rand(1, 1, 20_000, 2)
    upstream = torch.rand(1, 1, 20_000, 3).to(dtype)

    def found(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = maps.clone().requires_grad_()
        features = lookup_features(maps, positions.to(maps.dtype) if maps.dtype == torch.float64 else positions)
        features.backward(upstream.to(features.dtype))
        assert maps.grad is not None
        return features, maps.grad

    exact, half = found(maps.double()), found(maps)
    for precise, rounded in zip(exact, half, strict=True):
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded.double(), precise, rtol=torch.finfo(dtype).eps, atol=1e-3)
