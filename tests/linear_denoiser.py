"""A linear denoiser of images, which a trained one has to beat."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch


def blurred(images: Float[Tensor, "b c h w"], deviation: float) -> Float[Tensor, "b c h w"]:
    """The images under a Gaussian of a standard deviation in pixels; 0 leaves them as they are."""
    if deviation == 0:
        return images
    reach = int(3 * deviation + 1)
    weights = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * deviation**2))
    weights = (weights / weights.sum()).repeat(images.shape[1], 1, 1, 1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights.transpose(2, 3), groups=images.shape[1])
    return F.conv2d(rows, weights, groups=images.shape[1])


def least_linear_error(
    estimate: Float[Tensor, "b 3 h w"], scaled: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]
) -> float:
    """The squared error of estimate + g · blur(x_t/√ᾱ − estimate) with the best g and blur for these scenes."""
    errors = []
    for deviation in (0, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8):
        change = blurred(scaled - estimate, deviation)
        gain = ((truth - estimate) * change).sum() / change.square().sum()
        errors.append((estimate + gain * change - truth).square().mean().item())
    return min(errors)


def assert_better_than_linear(model: InverseGraphics, scenes: Batch, levels: Sequence[int]) -> None:
    """A model's denoised targets of scenes are nearer to the true ones than those of the linear denoiser."""
    truth = scenes.target.observation
    estimate = model.forward_model(model.denoiser.deterministic_field(scenes.context), scenes.target.params)
    conditioning = model.denoiser.condition(scenes.context, scenes.target.params)
    generator = torch.Generator().manual_seed(0)
    for number in levels:
        level = torch.full((len(truth),), number)
        noise = torch.randn(truth.shape, generator=generator)
        noisy = model.process.add_noise(truth, noise, level)
        rate, _ = model.process.rates(level, level.float())
        denoised = model.forward_model(model.denoiser(noisy, level, conditioning), scenes.target.params)
        error = (denoised - truth).square().mean().item()
        linear = least_linear_error(estimate[:, 0], (noisy / rate.view(-1, 1, 1, 1, 1))[:, 0], truth[:, 0])
        assert error < linear, f"level {number}: {error:.4f} against {linear:.4f} of the linear denoiser"
