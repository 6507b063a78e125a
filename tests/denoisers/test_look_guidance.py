"""Guidance of hidden looks: further from the estimate in a region's mean colour, and in nothing else."""

import pytest
import torch
from small_volumes import denoiser, estimate_renderer, views_of
from torch import Tensor

from dfm_lightning.denoisers.hidden_look import LookPlaces
from dfm_lightning.denoisers.look_guidance import LookGuidance
from dfm_lightning.types import select_views

SIDE = 4


def halves() -> tuple[LookPlaces, Tensor, Tensor]:
    """Two looks, the left and the right half of an image, each averaged over its half and painting it."""
    left = torch.zeros(SIDE, SIDE)
    left[:, : SIDE // 2] = 1.0
    shares = torch.stack([left, 1 - left]).view(1, 2, -1).expand(3, -1, -1)
    generator = torch.Generator().manual_seed(0)
    estimate = torch.rand(3, 6, SIDE, SIDE, generator=generator) * 0.2 - 0.1
    images = 0.5 + 0.1 * torch.rand(3, SIDE, SIDE, 3, generator=generator)
    return LookPlaces(shares / shares.sum(dim=-1, keepdim=True), shares, torch.zeros(3, 2, 3)), estimate, images


def test_the_mean_colour_of_a_guided_region_moves_and_nothing_else() -> None:
    places, estimate, images = halves()
    # Halfway from the least noise to nothing but noise, half of the scale of 5 counts.
    guided = LookGuidance([5.0, 1.0], least_noise=0.5)(images, torch.full((3,), 0.75), estimate, places)
    torch.testing.assert_close(guided[:, :, SIDE // 2 :], images[:, :, SIDE // 2 :])
    before, after = images[:, :, : SIDE // 2], guided[:, :, : SIDE // 2]
    base = (estimate[:, :3, :, : SIDE // 2] * 0.5 + 0.5).mean(dim=(2, 3))
    mean = before.mean(dim=(1, 2))
    torch.testing.assert_close(after.mean(dim=(1, 2)), base + 3 * (mean - base))
    # Differences between the region's pixels stay.
    torch.testing.assert_close(after - after.mean(dim=(1, 2), keepdim=True), before - mean[:, None, None])


def test_it_begins_gradually_and_keeps_to_the_range_of_colours() -> None:
    places, estimate, images = halves()
    noise_rate = torch.tensor([0.3, 0.8, 0.801])
    guided = LookGuidance([3.0, 3.0], least_noise=0.8)(images, noise_rate, estimate, places)
    torch.testing.assert_close(guided[:2], images[:2])
    assert 0 < (guided[2] - images[2]).abs().max() < 0.01
    guided = LookGuidance([50.0, 50.0], least_noise=0.8)(images, torch.ones(3), estimate, places)
    assert guided.min() >= 0
    assert guided.max() == 1
    plain = LookGuidance([1.0, 1.0], least_noise=0.0)(images, noise_rate, estimate, places)
    torch.testing.assert_close(plain, images)


def test_a_denoiser_guides_its_noisy_target_and_not_in_training() -> None:
    settings = {"hidden_colours": 2, "estimate_renderer": estimate_renderer()}
    plain = denoiser(**settings)
    guided = denoiser(**settings, look_guidance=LookGuidance([4.0, 4.0], least_noise=0.5))
    context = views_of(1)
    noisy = torch.randn(2, 1, 3, 8, 8)
    conditioning = plain.condition(context, select_views(context.params, slice(1)))

    def colours(level: int, training: bool = False) -> list[Tensor]:
        found = []
        for model in (plain, guided):
            model.train(training).target_dropout = 0.0
            with torch.no_grad():
                found.append(model(noisy, torch.full((2,), level), conditioning).views.maps[:, -1])
        return found

    before, after = colours(900)
    torch.testing.assert_close(before[..., :-3], after[..., :-3])
    expected = guided.look_guidance(
        before[..., -3:], plain._rates(torch.full((2,), 900))[1], conditioning.estimate[:, 0], conditioning.places
    )
    torch.testing.assert_close(after[..., -3:], expected)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(*colours(100))
    torch.testing.assert_close(*colours(900, training=True))


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="scales"):
        LookGuidance([-1.0])
    with pytest.raises(ValueError, match="least_noise"):
        LookGuidance([2.0], least_noise=1.0)
    with pytest.raises(ValueError, match="look_guidance"):
        denoiser(hidden_colours=2, estimate_renderer=estimate_renderer(), look_guidance=LookGuidance([2.0]))
