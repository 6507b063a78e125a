"""The noise levels of DDPM, on which most zero-shot solvers were made, in any process."""

from itertools import pairwise

import numpy as np

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.diffusion.spacing import Spacing

DDPM_LEVELS = 1000


def ddpm_log_ratios() -> np.ndarray:
    """Return ln(α/σ) of the 1000 levels of DDPM, whose β grows uniformly from 10⁻⁴ to 0.02; falling."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, DDPM_LEVELS))
    return 0.5 * np.log(alpha_bar / (1 - alpha_bar))


class DDPMLevels(Spacing):
    """Some of the 1000 levels of DDPM: in each process, its levels with the same ratio of signal and noise.

    Where the process ends at less noise than DDPM (σ/α is 157 at level 999), its noisiest level stands for all
    beyond.

    Args:
        to_the_end: evenly from level 999 to level 0, as DPS does, instead of multiples of 1000 // steps, as the
            others do.
    """

    def __init__(self, to_the_end: bool = False) -> None:
        self.to_the_end = to_the_end

    def check(self, steps: int) -> None:
        """See `Spacing.check`."""
        super().check(steps)
        if steps > DDPM_LEVELS:
            raise ValueError(f"steps must be at most {DDPM_LEVELS}, the levels of DDPM, got {steps}")

    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """See `Spacing.levels`; fewer than `steps` where the process ends before DDPM does."""
        self.check(steps)
        if self.to_the_end:
            numbers = [round(k * (DDPM_LEVELS - 1) / max(steps - 1, 1)) for k in range(steps)]
        else:
            numbers = [k * (DDPM_LEVELS // steps) for k in range(steps)]
        ratios = ddpm_log_ratios()
        found: list[Number] = [process.level_at(float(ratios[number])) for number in sorted(numbers, reverse=True)]
        if process.integer_levels:
            found = [round(level) for level in found]
        # One at an end stands for all beyond.
        return found[:1] + [after for before, after in pairwise(found) if after < before]
