"""Quicker renderings while a scene is sampled: fewer points at noisy levels, points left out."""

import torch
from test_pixelnerf import problem

from dfm_lightning.diffusion import CosineProcess, ObservationDenoiser
from dfm_lightning.forward_models import VolumeRendering


def test_only_noisy_levels_have_fewer_fine_points() -> None:
    denoiser, context, target, noisy, _ = problem()
    forward_model = VolumeRendering(0.5, 4.0, 6, 6, noisy_fine_samples=2).eval()
    plain = VolumeRendering(0.5, 4.0, 6, 6).eval()
    quick = VolumeRendering(0.5, 4.0, 6, 2).eval()
    process = CosineProcess()
    signal, noise = process.rates(torch.tensor([100, 900]), torch.zeros(2))
    assert signal[0] > noise[0]
    assert signal[1] < noise[1]
    with torch.no_grad():
        for level, expected in ((100, plain), (900, quick)):
            levels = torch.full((2,), level)
            estimates = [
                ObservationDenoiser(denoiser, model, context, target, process=process)(noisy, levels).clean
                for model in (forward_model, expected)
            ]
            torch.testing.assert_close(*estimates, atol=1e-9, rtol=0)
        # One draw of the batch that has less noise than signal decides.
        both = [
            ObservationDenoiser(denoiser, model, context, target, process=process)(noisy, torch.tensor([3, 900]))
            for model in (forward_model, plain)
        ]
    torch.testing.assert_close(both[0].clean, both[1].clean, atol=1e-9, rtol=0)


def test_points_are_left_out_whatever_is_remembered() -> None:
    denoiser, context, target, noisy, level = problem()
    images = []
    with torch.no_grad():
        for memory, skipped in ((0, 0.0), (0, 0.2), (100, 0.2)):
            denoiser.context_memory_mb = memory
            renderer = VolumeRendering(0.5, 4.0, 6, 6, skipped_light=skipped).eval()
            denoise = ObservationDenoiser(denoiser, renderer, context, target)
            images.append([denoise(noisy * share, level).clean for share in (1.0, 0.5)])
    exact, plain, remembered = (torch.stack(both) for both in images)
    torch.testing.assert_close(remembered, plain, atol=1e-9, rtol=0)
    assert (plain - exact).abs().max() > 1e-3
