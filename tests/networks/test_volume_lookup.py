"""Reading volumes at continuous places."""

import pytest
import torch
from torch.nn import functional as F

from dfm_lightning.networks.volume_lookup import lookup_volume


def by_grid_sample(volume: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    grid = (places * 2 - 1)[:, :, None, None]
    read = F.grid_sample(volume.movedim(-1, 1), grid, align_corners=False, padding_mode="border")
    return read[..., 0, 0].mT


def test_agrees_with_grid_sample_and_its_gradients_inside_and_outside() -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(2, 200, 3, dtype=torch.float64) * 1.6 - 0.3).requires_grad_()
    cotangent = torch.randn(2, 200, 6, dtype=torch.float64)
    results = []
    for read in (lookup_volume, by_grid_sample):
        out = read(volume, places)
        results.append((out, *torch.autograd.grad((out * cotangent).sum(), (volume, places))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_of_a_bf16_volume_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    places = torch.rand(1, 20_000, 3)
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        volume = torch.zeros(1, 2, 2, 2, 1, dtype=dtype, requires_grad=True)
        lookup_volume(volume, places.to(torch.promote_types(dtype, torch.float32))).sum().backward()
        gradients.append(volume.grad.double())
    torch.testing.assert_close(*gradients, rtol=0.005, atol=0)


def test_refuses_a_volume_of_one_layer() -> None:
    with pytest.raises(ValueError, match="1×3×3"):
        lookup_volume(torch.zeros(1, 1, 3, 3, 1), torch.zeros(1, 1, 3))
