"""Reference values of InvFusion's released network (tests/data/README.md), and its names for the weights."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DATA: dict[str, Any] = torch.load(
    Path(__file__).parents[2] / "data/inverse_problems/hourglass.pt", weights_only=True
)

_RENAMED = [
    (r"^unet\.", "network."),
    (r"patch_in\.proj", "patch_in.linear"),
    (r"patch_out\.proj", "patch_out.linear"),
    (r"time_emb\.", "time_features."),
    (r"time_in_proj\.", "time_in."),
    (r"aug_emb\.", "augmentation_features."),
    (r"aug_in_proj\.", "augmentation_in."),
    (r"mapping\.in_norm", "mapping.0"),
    (r"mapping\.blocks\.0", "mapping.1"),
    (r"mapping\.blocks\.1", "mapping.2"),
    (r"mapping\.out_norm", "mapping.3"),
    (r"down_levels", "down"),
    (r"up_levels", "up"),
    (r"mid_level", "middle"),
    (r"merges\.(\d)\.proj", r"merges.\1.linear"),
    (r"splits\.(\d)\.proj", r"splits.\1.split.linear"),
    (r"splits\.(\d)\.fac", r"splits.\1.share"),
    (r"feature_degradation\.deg_linear", "degradations.0.linear"),
    (r"attn\.self_attn\.", "attention."),
    (r"attn\.ff\.", "feed_forward."),
    (r"jnorm", "joint_norm"),
    (r"qkv_proj", "queries_keys_values"),
    (r"jk_proj", "joint_keys"),
    (r"jv_proj", "joint_values"),
    (r"out_proj", "out"),
    (r"up_proj", "up.linear"),
    (r"down_proj", "down"),
    (r"logvar_fourier\.freqs", "log_variance.frequencies"),
    (r"logvar_fourier\.phases", "log_variance.phases"),
    (r"logvar_linear", "log_variance.linear"),
]


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under this project's names; frequencies of rotary positions are computed here, not stored."""
    result = {}
    for name, value in state.items():
        if name.endswith("pos_emb.freqs"):
            continue
        for theirs, ours in _RENAMED:
            name = re.sub(theirs, ours, name)
        result[name] = value.float()
    return result
