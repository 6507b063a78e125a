"""Samplers step by step beside diffusers' schedulers, on another number of levels than the reference file's."""

from typing import Any

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from dfm_lightning.diffusion import (
    CosineProcess,
    DPMSolver,
    DPMSolverSDE,
    GivenLevels,
    Sampler,
    UniPC,
)

LEVELS = 250
STEPS = 20  # from 15 on diffusers keeps the order up to the last step but one


def estimate(noisy: Tensor, level: Tensor) -> Tensor:
    """A denoiser that depends on both of its inputs and is no multiple of the noisy observation."""
    return (noisy * (1 - level.view(-1, 1) / 275) + 0.3).tanh()


@pytest.mark.parametrize(
    ("scheduler", "options", "kind", "settings"),
    [
        (DPMSolverMultistepScheduler, {"solver_order": 2}, DPMSolver, {"order": 2}),
        (DPMSolverMultistepScheduler, {"solver_order": 3}, DPMSolver, {"order": 3}),
        (
            DPMSolverMultistepScheduler,
            {"solver_order": 2, "solver_type": "heun"},
            DPMSolver,
            {"second_order": "integral"},
        ),
        (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}, DPMSolverSDE, {}),
        (UniPCMultistepScheduler, {"solver_order": 2}, UniPC, {"order": 2}),
        (UniPCMultistepScheduler, {"solver_order": 3}, UniPC, {"order": 3}),
    ],
)
def test_every_step_is_that_of_diffusers(
    scheduler: Any, options: dict[str, Any], kind: type[Sampler], settings: dict[str, Any]
) -> None:
    theirs = scheduler(
        num_train_timesteps=LEVELS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        **options,
    )
    theirs.set_timesteps(STEPS)
    levels = [int(level) for level in theirs.timesteps]
    assert len(set(levels)) == STEPS
    process = CosineProcess(LEVELS)
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    drawn = list(torch.randn(STEPS, 5, 3, generator=torch.Generator().manual_seed(1)))
    ours = kind(STEPS, uneven_below=0, spacing=GivenLevels(levels), **settings)  # type: ignore[call-arg]  # kinds have it
    fresh = iter(drawn)
    noisy = noise
    for level, extra, step in zip(
        theirs.timesteps, drawn, ours.sample(estimate, noise, process, lambda: next(fresh)), strict=True
    ):
        clean = estimate(noisy, level.expand(5))
        further = {"variance_noise": extra} if kind is DPMSolverSDE else {}
        noisy = theirs.step(clean, level, noisy, **further).prev_sample
        # They compute in float32, from ᾱ in float32.
        torch.testing.assert_close(step.noisy, noisy, rtol=1e-3, atol=1e-3)
