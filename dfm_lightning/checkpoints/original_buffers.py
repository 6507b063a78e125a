"""Tensors in the state of the original models that are computed, not trained."""

import torch
from torch import Tensor


def frequencies(octaves: int) -> dict[str, Tensor]:
    """Return the buffers of their positional encoding: 1.5 · 2^k twice each, and the phases of sine and cosine."""
    return {
        "_freqs": (1.5 * 2.0 ** torch.arange(octaves)).repeat_interleave(2).view(1, -1, 1),
        "_phases": torch.tensor([0, torch.pi / 2]).repeat(octaves).view(1, -1, 1),
    }


def schedule_buffers(alphas_cumprod: Tensor) -> dict[str, Tensor]:
    """Compute all buffers of their diffusion, from ᾱ in float64 (Ho et al. 2020; Nichol and Dhariwal 2021)."""
    ones = alphas_cumprod.new_ones(1)
    before = torch.cat([ones, alphas_cumprod[:-1]])
    alphas = alphas_cumprod / before
    betas = 1 - alphas
    variance = betas * (1 - before) / (1 - alphas_cumprod)
    buffers = {
        "betas": betas,
        "alphas_cumprod": alphas_cumprod,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": alphas_cumprod.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - alphas_cumprod).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - alphas_cumprod).log(),
        "sqrt_recip_alphas_cumprod": (1 / alphas_cumprod).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / alphas_cumprod - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - alphas_cumprod),
        "posterior_mean_coef2": (1 - before) * alphas.sqrt() / (1 - alphas_cumprod),
        "p2_loss_weight": torch.ones_like(betas),
    }
    return {name: value.float() for name, value in buffers.items()}
