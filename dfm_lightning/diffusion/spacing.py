"""Spacings: the noise levels at which a sampler evaluates the denoiser."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dfm_lightning.diffusion.noise_process import CosineProcess, NoiseProcess, Number
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.record import Recorded

# Above this noise the cosine schedule's clipped β makes outliers of its last levels: σ/α is 160 at level 995
# of 1000 and 20,000 at level 999. λ = ln(α/σ) is clipped here by DPM-Solver's authors as well.
LEAST_LOG_RATIO = -5.1

# Align Your Steps (Sabour et al. 2024), optimised for DeepFloyd-IF, whose noise is the cosine schedule of 1000
# levels. The last one, 0, is where its ten steps end.
ALIGNED_STEPS = (995, 920, 811, 686, 555, 418, 315, 174, 109, 12, 0)


class Spacing(Recorded, ABC):
    """A choice of the levels at which the denoiser is evaluated."""

    def check(self, steps: int) -> None:
        """Refuse a number of levels that this spacing does not have, whatever the process."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")

    @abstractmethod
    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """Return `steps` levels of the process, each below the one before it.

        Integers where the process has integer levels. The clean observation, level −1, is not among them.

        Raises:
            ValueError: if the process does not have that many levels, or not those asked for.
        """


def check_number(steps: int, process: NoiseProcess) -> None:
    """Refuse more steps than a process of integer levels has."""
    if process.integer_levels and steps > process.levels:
        raise ValueError(f"{steps} sampling steps exceed the {process.levels} levels of the process")


def noisiest_usable(process: NoiseProcess) -> Number:
    """Return the first level, from the noisiest on, with ln(α/σ) of at least −5.1."""
    level = process.level_at(LEAST_LOG_RATIO)
    return math.floor(level) if process.integer_levels else level


def distinct(levels: Sequence[Number], process: NoiseProcess) -> list[Number]:
    """Round levels where the process has integer ones; of those that coincide, all but one move to free levels."""
    if not process.integer_levels:
        return list(levels)
    rounded = [round(level) for level in levels]
    number, free = len(rounded), rounded[0] - rounded[-1] + 1
    if number > free:
        raise ValueError(
            f"{number} sampling steps exceed the {free} levels from {rounded[0]} down to {rounded[-1]}"
        )
    result: list[Number] = []
    for index, level in enumerate(rounded):
        highest = result[-1] - 1 if result else level
        lowest = rounded[-1] + number - 1 - index
        result.append(max(min(level, highest), lowest))
    return result


class Trailing(Spacing):
    """Levels evenly from the noisiest one to clean, where nothing is evaluated: T − 1, …, T/steps − 1.

    DFM's, and "trailing" in diffusers. The last step, from level T/steps − 1 to clean, is long.

    Args:
        clipped: begin at the first level with ln(α/σ) ≥ −5.1 rather than at the noisiest one.
    """

    def __init__(self, clipped: bool = False) -> None:
        self.clipped = clipped

    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """See `Spacing.levels`."""
        check_number(steps, process)
        first = noisiest_usable(process) if self.clipped else process.last_level
        if not process.integer_levels:
            return [first * (steps - index) / steps for index in range(steps)]
        # In whole numbers: a rounded quotient that should be whole would be cut to the level below.
        number = int(first) + 1
        return distinct([(steps - index) * number // steps - 1 for index in range(steps)], process)


class Leading(Spacing):
    """Multiples of T // steps, from (steps − 1) · (T // steps) down to 0; "leading" in diffusers.

    Sampling begins below the noisiest level, with noise that the denoiser takes for a noisy observation.
    """

    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """See `Spacing.levels`."""
        check_number(steps, process)
        stride = process.levels // steps if process.integer_levels else process.levels / steps
        return [index * stride for index in reversed(range(steps))]


class SpacingWithEnds(Spacing):
    """Levels between the first with ln(α/σ) ≥ −5.1 (995 of the cosine schedule's 1000) and a given last one.

    Args:
        last: the last level at which the denoiser is evaluated, at least 0.
    """

    def __init__(self, last: Number = 0) -> None:
        check_at_least(0, last=last)
        self.last = last

    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """See `Spacing.levels`."""
        check_number(steps, process)
        first = noisiest_usable(process)
        if steps > 1 and self.last >= first:
            raise ValueError(f"last is {self.last}, but sampling begins at level {first:g}: choose a lower one")
        if steps == 1:
            return [first]
        return distinct(self.between(first, np.linspace(0, 1, steps), process), process)

    @abstractmethod
    def between(self, first: Number, shares: np.ndarray, process: NoiseProcess) -> list[Number]:
        """Return a level for each share of the way from `first` (0) to `last` (1), not rounded."""


class Even(SpacingWithEnds):
    """Levels evenly from the first to the last one."""

    def between(self, first: Number, shares: np.ndarray, process: NoiseProcess) -> list[Number]:
        """See `SpacingWithEnds.between`."""
        return [float(level) for level in first + shares * (self.last - first)]


class Quadratic(SpacingWithEnds):
    """Levels whose distance from the last one falls quadratically: last + (first − last)(1 − i/(steps − 1))².

    Args:
        last: the last level at which the denoiser is evaluated, at least 0.
    """

    def __init__(self, last: Number = 4) -> None:
        super().__init__(last)

    def between(self, first: Number, shares: np.ndarray, process: NoiseProcess) -> list[Number]:
        """See `SpacingWithEnds.between`."""
        return [float(level) for level in self.last + (first - self.last) * (1 - shares) ** 2]


class LogSNR(SpacingWithEnds):
    """Levels evenly in λ = ln(α/σ), half the logarithm of the signal-to-noise ratio (Lu et al. 2022)."""

    def between(self, first: Number, shares: np.ndarray, process: NoiseProcess) -> list[Number]:
        """See `SpacingWithEnds.between`."""
        start, end = process.log_ratio(first), process.log_ratio(self.last)
        return [process.level_at(float(value)) for value in start + shares * (end - start)]


class Karras(SpacingWithEnds):
    """Levels evenly in (σ/α)^(1/ρ) (Karras et al. 2022, eq. 5).

    Args:
        last: the last level at which the denoiser is evaluated, at least 0.
        rho: the exponent ρ; the greater, the more levels with little noise.
    """

    def __init__(self, last: Number = 0, rho: Number = 7.0) -> None:
        super().__init__(last)
        check_above(0, rho=rho)
        self.rho = rho

    def between(self, first: Number, shares: np.ndarray, process: NoiseProcess) -> list[Number]:
        """See `SpacingWithEnds.between`."""
        start, end = (math.exp(-process.log_ratio(level) / self.rho) for level in (first, self.last))
        return [process.level_at(-self.rho * math.log(root)) for root in start + shares * (end - start)]


class AlignYourSteps(Spacing):
    """The list that Align Your Steps optimised for the cosine schedule (Sabour et al. 2024): 10 or 11 levels.

    Other numbers of steps interpolate its eleven noise levels evenly in ln(σ/α), as its authors advise. Other
    processes use their own levels with the same σ/α.
    """

    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """See `Spacing.levels`."""
        check_number(steps, process)
        reference = CosineProcess()
        ratios = np.array([reference.log_ratio(level) for level in ALIGNED_STEPS])
        if steps == 10:
            ratios = ratios[:-1]
        places = np.linspace(0, len(ratios) - 1, steps)
        values = np.interp(places, np.arange(len(ratios)), ratios)
        return distinct([process.level_at(float(value)) for value in values], process)


class GivenLevels(Spacing):
    """Levels listed by the user, from the noisiest to the least noisy one, without the clean −1.

    Args:
        levels: as many as the sampler has steps; each below the one before it and at least 0.
    """

    def __init__(self, levels: Sequence[Number]) -> None:
        if not levels:
            raise ValueError("levels must list at least one level")
        check_at_least(0, levels=levels)
        for current, following in pairwise(levels):
            if following >= current:
                raise ValueError(f"levels must fall, but {following} follows {current}")
        self.given = list(levels)

    def check(self, steps: int) -> None:
        """See `Spacing.check`."""
        super().check(steps)
        if steps != len(self.given):
            raise ValueError(f"steps is {steps}, but levels lists {len(self.given)}: set steps to that number")

    def levels(self, steps: int, process: NoiseProcess) -> list[Number]:
        """See `Spacing.levels`."""
        self.check(steps)
        if self.given[0] > process.last_level:
            raise ValueError(
                f"level {self.given[0]} exceeds {process.last_level}, the noisiest level of the process"
            )
        if process.integer_levels:
            fractions = [level for level in self.given if level != int(level)]
            if fractions:
                raise ValueError(f"the process has integer levels, but levels lists {fractions[0]}")
            return [int(level) for level in self.given]
        return [float(level) for level in self.given]
