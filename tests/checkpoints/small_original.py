"""Small models in the original layout with random weights."""

from typing import Any

import torch
from torch import Tensor

from dfm_lightning.checkpoints.original_layout import Sizes, layout
from dfm_lightning.checkpoints.original_weights import computed_buffers

SMALL = Sizes("diffusion", 16, 16, 1, 4, 2, 6, 4, 8, 5, 2, 7, False)
POSED = SMALL._replace(absolute_pose=True)
PIXELNERF = POSED._replace(stage="deterministic", outputs=4)
HEADS = 2


def random_state(sizes: Sizes = SMALL, seed: int = 0, scale: float = 0.3) -> dict[str, Tensor]:
    """A state of these sizes: random weights, the right buffers, a black background, no perceptual loss."""
    generator = torch.Generator().manual_seed(seed)
    state = {key: torch.randn(shape, generator=generator) * scale for key, shape in layout(sizes).required.items()}
    state |= computed_buffers(sizes)
    return state | {key: torch.zeros(3) for key in state if key.endswith("backgrd_color")}


def checkpoint_of(state: dict[str, Tensor], raw: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """A training checkpoint as the original code writes it: averaged and raw weights, by default the same."""
    raw = state if raw is None else raw
    ema = {f"online_model.{key}": value for key, value in raw.items()}
    ema |= {f"ema_model.{key}": value for key, value in state.items()}
    return {
        "step": 7,
        "model": dict(raw),
        "opt": {"state": {}, "param_groups": []},
        "ema": {**ema, "initted": torch.tensor([True]), "step": torch.tensor([7])},
        "scaler": None,
        "version": "0.0.1",
    }
