"""States of the original size, with random values: they convert, load, and denoise at both resolutions."""

import json
from pathlib import Path

import pytest
import torch
from original_parity import build_task, converted
from torch import Tensor

from dfm_lightning.checkpoints.original_layout import BACKGROUND, ESTIMATE_BACKGROUND
from dfm_lightning.diffusion import ObservationDenoiser
from dfm_lightning.geometry.cameras import build_cameras
from dfm_lightning.types import Cameras, Views, map_tensors

KEYS = Path(__file__).parents[1] / "data" / "original_dfm_keys.json"


def random_values(shape: list[int], generator: torch.Generator) -> Tensor:
    """Random along the last dimension, the same along the others, so that gigabytes of weights take kilobytes."""
    inputs = max(1, torch.Size(shape[1:]).numel())
    return (torch.randn(shape[-1], generator=generator) * inputs**-0.5).expand(shape)


def one_view(size: int) -> Views:
    pose = torch.eye(4)[None]
    intrinsics = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]])
    cameras: Cameras = map_tensors(lambda t: t[None], build_cameras(pose, intrinsics, pose[0], size, size))
    return Views(torch.rand(1, 1, 3, size, size) * 2 - 1, cameras)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["re10k", "co3d"])
@torch.no_grad()
def test_a_state_of_full_size_converts_loads_and_denoises(name: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = json.loads(KEYS.read_text())[name]
    state = {key: random_values(shape, generator) for key, shape in shapes.items()}
    state[BACKGROUND] = state[BACKGROUND].sigmoid()
    if ESTIMATE_BACKGROUND in state:
        state[ESTIMATE_BACKGROUND] = state[BACKGROUND]
    checkpoint = converted({"model": state}, tmp_path, weights="raw")
    task = build_task(checkpoint, 0.7, 10.0, (3, 1, 3))
    del checkpoint
    assert len(task.denoiser.encoder.core.blocks) == 28
    for size in (64, 128):
        context, target = one_view(size), one_view(size)
        denoise = ObservationDenoiser(task.denoiser, task.forward_model, context, target.params)
        clean = denoise(target.observation, torch.tensor([500])).clean
        assert clean.isfinite().all()
