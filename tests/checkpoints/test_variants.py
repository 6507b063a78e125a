"""Converted models against the formulas, in variants: absolute poses, several contexts, backgrounds, widths."""

from pathlib import Path
from typing import Any

import pytest
import straightforward_dfm as plain
import torch
from original_parity import build_task, converted
from small_original import HEADS, SMALL, checkpoint_of, random_state
from torch import Tensor

from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.types import Cameras, Views, map_tensors, select_views

SIX_OCTAVES = SMALL._replace(octaves=6)
NEAR, FAR, SAMPLES = 0.5, 4.0, 5
BACKGROUND = [0.2, 0.9, 0.5]
LEVEL = 700


def scene(contexts: int, size: int) -> tuple[Views, Views]:
    """Context views and a target, their first camera not at the world's origin."""
    generator = torch.Generator().manual_seed(1)
    count = contexts + 1
    position = torch.randn(count, 3, generator=generator, dtype=torch.float64) * 0.4
    poses = look_at(
        position, torch.tensor([0.1, 0.2, 3.0]).double().expand(count, 3), torch.tensor([0.0, -1, 0]).double()
    )
    intrinsics = torch.tensor([[1.1, 0, 0.45], [0, 0.9, 0.55], [0, 0, 1]]).double().expand(count, 3, 3)
    cameras: Cameras = map_tensors(
        lambda t: t[None].double(), build_cameras(poses, intrinsics, poses[0], size, size)
    )
    images = torch.rand(1, count, 3, size, size, generator=generator, dtype=torch.float64) * 2 - 1
    views = Views(images, cameras)
    return select_views(views, slice(contexts)), select_views(views, slice(contexts, None))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "contexts", "size"),
    [
        ({}, 1, 16),
        ({"absolute_pose": True}, 1, 16),
        ({"absolute_pose": True}, 3, 16),
        ({"mlp_width": 64, "depth": 2}, 2, 16),
        # Another resolution than the state's: its position embeddings are dropped, as their loader does.
        ({"tokens": 9}, 2, 16),
    ],
    ids=["plain", "posed", "three contexts", "wider", "another resolution"],
)
@torch.no_grad()
def test_a_converted_model_computes_the_formulas(
    changes: dict[str, Any], contexts: int, size: int, tmp_path: Path
) -> None:
    sizes = SIX_OCTAVES._replace(**changes)
    state = random_state(sizes, scale=0.2)
    for renderer in ("renderer", "renderer_coarse"):
        state[f"model.{renderer}.backgrd_color"] = torch.tensor(BACKGROUND)
    task = build_task(
        converted(checkpoint_of(state), tmp_path, heads=HEADS), NEAR, FAR, (SAMPLES, 4, SAMPLES)
    ).double()
    state = {key: value.double() for key, value in state.items()}
    # As computed for the images' size.
    state["model.enc.pos_embed"] = random_state(sizes._replace(tokens=(size // 4) ** 2))[
        "model.enc.pos_embed"
    ].double()
    context, target = scene(contexts, size)
    denoiser = task.denoiser

    def features(image: Tensor, level: float, pose: Tensor) -> Tensor:
        return plain.encode(state, image, level, pose, HEADS)

    cameras = context.params
    maps = torch.stack(
        [
            features(*pair)
            for pair in zip(context.observation[0], [0.0] * contexts, cameras.absolute_pose[0], strict=True)
        ]
    )
    ours = denoiser.encoder.encode_context(context.observation[0], cameras.absolute_pose[0])
    torch.testing.assert_close(ours.movedim(-1, 1), maps, rtol=1e-5, atol=1e-6)

    intrinsics = cameras.intrinsics[0, 0]
    seen = (maps, cameras.camera_to_world[0], intrinsics, [0.0] * contexts)
    expected = plain.render_coarse(
        state,
        "model.pixelNeRF_joint_coarse.mlp.",
        torch.tensor(BACKGROUND).double(),
        seen,
        target.params.camera_to_world[0, 0],
        size,
        NEAR,
        FAR,
        SAMPLES,
    )
    conditioning = denoiser.condition(context, target.params)
    torch.testing.assert_close(conditioning.estimate[0, 0], expected, rtol=1e-4, atol=1e-5)

    noisy = target.observation
    signal = denoiser(noisy, torch.tensor([LEVEL]), conditioning)
    with_estimate = torch.cat([noisy[0, 0], expected])
    target_map = features(with_estimate, float(LEVEL), target.params.absolute_pose[0, 0])
    all_maps = torch.cat([maps, target_map[None]])
    poses = torch.cat([cameras.camera_to_world[0], target.params.camera_to_world[0]])
    # Some of them behind the cameras.
    points = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3
    for stage, name in (("coarse", "mlp"), ("fine", "mlp_fine")):
        values = signal.query(points[None], stage)
        found = (values.colour[0], values.density[0], values.features[0])
        levels = [0.0] * contexts + [float(LEVEL)]
        expected_values = plain.query(
            state, f"model.pixelNeRF_joint.{name}.", points, all_maps, poses, intrinsics, levels
        )
        torch.testing.assert_close(found, expected_values, rtol=1e-4, atol=1e-5)
