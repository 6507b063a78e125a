"""The search space of `dfm tune-sampler`: samplers with their own levels, and their random changes."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dfm_lightning import diffusion
from dfm_lightning.diffusion import (
    DDIM,
    GHVB,
    PLMS,
    DPMSolver,
    GivenLevels,
    LogSNR,
    NoiseProcess,
    Quadratic,
    Sampler,
    Trailing,
    UniPC,
)
from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.spacing import distinct

# Fixed choices that results are compared with, and that the search may begin with: one evaluation a step.
_FIXED: list[tuple[type[Sampler], dict[str, Any]]] = [
    (DDIM, {}),
    (DPMSolver, {}),
    (UniPC, {}),
    (UniPC, {"order": 3}),
    (PLMS, {}),
    (GHVB, {"order": 3}),
]


class Candidate(NamedTuple):
    """A sampler: the name of its class, settings beside steps and spacing, and the levels it visits, falling."""

    kind: str
    settings: dict[str, Any]
    levels: list[Number]

    def sampler(self, common: dict[str, Any]) -> Sampler:
        """Make the sampler, with settings that all candidates share."""
        kind = getattr(diffusion, self.kind)
        return kind(len(self.levels), spacing=GivenLevels(self.levels), **self.settings, **common)

    def config(self, common: dict[str, Any]) -> dict[str, Any]:
        """Describe it as configs do."""
        spacing = {"class_path": "dfm_lightning.diffusion.GivenLevels", "init_args": {"levels": self.levels}}
        settings = {"steps": len(self.levels), **self.settings, **common, "spacing": spacing}
        return {"class_path": f"dfm_lightning.diffusion.{self.kind}", "init_args": settings}


def fixed_choices(steps: int, process: NoiseProcess) -> dict[str, Candidate]:
    """List samplers on spacings that need no search, by their names."""
    found = {}
    for spacing in (Trailing(), Quadratic(), LogSNR(last=4)):
        levels = spacing.levels(steps, process)
        for kind, settings in _FIXED:
            order = f" {settings['order']}" if settings else ""
            found[f"{kind.__name__}{order}, {type(spacing).__name__}"] = Candidate(kind.__name__, settings, levels)
    return found


def searchable(candidate: Candidate) -> Candidate:
    """Return the same sampler in the form that is varied: as a `DCSolver` if it is one of its kind."""
    inner = max(len(candidate.levels) - 2, 0)
    orders = {"DDIM": 1, "DPMSolver": 2, "UniPC": candidate.settings.get("order", 2)}.get(candidate.kind)
    if orders is None:
        return candidate
    settings = {"orders": [orders] * inner, "compensation": [1.0] * inner, "corrector": candidate.kind == "UniPC"}
    return Candidate("DCSolver", settings, candidate.levels)


def varied(candidate: Candidate, spread: float, process: NoiseProcess, random: np.random.Generator) -> Candidate:
    """Change a candidate at random: its levels, and one of its other settings now and then.

    Args:
        candidate: what is changed; it stays as it is.
        spread: standard deviation of a level's move in λ = ln(α/σ), over the distance to its neighbours; that of
            other numbers accordingly.
        process: what the levels are of.
        random: the source of randomness.
    """
    settings = dict(candidate.settings)
    if candidate.kind == "DCSolver":
        orders, compensation = list(settings["orders"]), list(settings["compensation"])
        for place in range(len(orders)):
            if random.random() < 1 / len(orders):
                orders[place] = int(np.clip(orders[place] + random.choice([-1, 1]), 1, 3))
            if random.random() < 1 / len(orders):
                moved_share = compensation[place] + 0.5 * spread * random.normal()
                compensation[place] = round(float(np.clip(moved_share, 0, 2)), 3)
        settings |= {"orders": orders, "compensation": compensation}
    if "corrector" in settings and random.random() < 0.1:
        settings["corrector"] = not settings["corrector"]
    if candidate.kind == "GHVB":
        momentum = settings.get("momentum", GHVB().momentum)
        settings["momentum"] = round(float(np.clip(momentum + 0.3 * spread * random.normal(), 0.2, 1.0)), 3)
    moved = _moved(candidate.levels, spread, process, random) if random.random() < 0.85 else candidate.levels
    return Candidate(candidate.kind, settings, moved)


def _moved(
    levels: list[Number], spread: float, process: NoiseProcess, random: np.random.Generator
) -> list[Number]:
    ratios = np.array([process.log_ratio(level) for level in levels])
    if len(ratios) > 1:
        gaps = np.abs(np.diff(ratios))
        near = np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))
    else:
        near = np.ones(1)
    # Some at a time: moves of all of them are seldom all for the better.
    chosen = random.random(len(ratios)) < max(0.4, 1 / len(ratios))
    ratios = np.sort(ratios + chosen * spread * near * random.normal(size=len(ratios)))
    last = process.log_ratio(0)
    found = [process.level_at(float(min(ratio, last))) for ratio in ratios]
    if process.integer_levels:
        return distinct(found, process) if round(found[0]) - round(found[-1]) + 1 >= len(found) else levels
    return found if all(after < before for before, after in pairwise(found)) else levels
