"""Which observation of a scene to make next, written beside its samples."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.files import write_json
from dfm_lightning.sampling import disagreement

FILE = "next_observation.json"
MEANING = "candidates by the entropy of what the samples show there, largest first; observe the first one next"
# Number of candidates listed: enough to skip some that cannot be observed.
_LISTED = 100


class Candidates(NamedTuple):
    """Observations that could be made of a scene: the name of each, and what n samples of the scene show there."""

    names: list[dict[str, int]]
    observations: Float[Tensor, "n m *o"]


def write_choice(scene: Path, candidates: Candidates) -> str:
    """Rank the candidates of a scene (see `sampling.disagreement`), write `next_observation.json`; name the first.

    Args:
        scene: the folder of its samples.
        candidates: what could be observed, by two samples or more.
    """
    entropies = disagreement(candidates.observations)
    order = entropies.argsort(descending=True, stable=True)[:_LISTED].tolist()
    listed = [{**candidates.names[place], "disagreement": entropies[place].item()} for place in order]
    write_json(scene / FILE, {"meaning": MEANING, "samples": len(candidates.observations), "candidates": listed})
    return ", ".join(f"{name} {number}" for name, number in candidates.names[order[0]].items())


def stacked(observations: list[Tensor]) -> Float[Tensor, "n m *o"] | None:
    """Stack what samples show, [m ...] each; None unless there are several, alike in shape."""
    alike = len({tuple(observation.shape) for observation in observations}) == 1
    return torch.stack(observations) if alike and len(observations) > 1 else None
