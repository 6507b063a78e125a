"""FID and KID of a test, from features that were computed scene by scene."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.metrics import compare_features, warn_of_few

REAL, FAKE = "real ", "fake "


def true_and_sampled(role: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Name a role's true and sampled images as `joint_realism` expects their features."""
    return {REAL + role: real, FAKE + role: fake}


def joint_realism(inputs: Iterator[dict[str, np.ndarray]]) -> tuple[dict[str, Scores], dict[str, str]]:
    """Compute FID and KID by role, and of all roles together if there are several; add notes on them.

    Empty if there are no features. `images_true` and `images_sampled` say how many images are compared.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for arrays in inputs:
        for name, features in arrays.items():
            if name.startswith((REAL, FAKE)):
                parts.setdefault(name, []).append(features)
    stacked = {name: torch.from_numpy(np.concatenate(rows)) for name, rows in parts.items()}
    roles = [name.removeprefix(REAL) for name in stacked if name.startswith(REAL)]
    groups = {role: [role] for role in roles} | ({"all": roles} if len(roles) > 1 else {})
    scores: dict[str, Scores] = {}
    notes: dict[str, str] = {}
    for group, members in groups.items():
        real, fake = (torch.cat([stacked[side + role] for role in members]) for side in (REAL, FAKE))
        counts = {"images_true": float(len(real)), "images_sampled": float(len(fake))}
        scores[group] = {**compare_features(real, fake), **counts}
        notes |= {f"{name} ({group})": note for name, note in warn_of_few(len(real), len(fake)).items()}
    return scores, notes
