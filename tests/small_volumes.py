"""Tiny denoisers that lift views into a volume, and views for them."""

from typing import Any

import torch

from dfm_lightning.denoisers.volume import VolumeDenoiser
from dfm_lightning.diffusion import CosineProcess
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.geometry.scene_grids import ObjectCube, SceneGrid
from dfm_lightning.tasks import InverseGraphics, SceneObjective
from dfm_lightning.types import Batch, Views, map_tensors, select_views

SIZE = 8
CUBE = ObjectCube(4.0, 2.0, up=(0.0, 1.0, 0.0))


def views_of(count: int, scenes: int = 2, seed: int = 0) -> Views:
    """Random images of cameras on a circle of radius 4 about the origin."""
    generator = torch.Generator().manual_seed(seed)
    origin, up = torch.zeros(3).double(), torch.tensor([0.0, 1.0, 0.0]).double()
    angles = torch.linspace(0, 4, count).double()
    places = torch.stack([4 * angles.sin(), 1 + 0 * angles, 4 * angles.cos()], dim=1)
    poses = torch.stack([look_at(place, origin, up) for place in places])
    intrinsics = torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).double().expand(count, 3, 3)
    cameras = build_cameras(poses, intrinsics, poses[0], SIZE, SIZE)
    cameras = map_tensors(lambda t: t.float().expand(scenes, *t.shape).clone(), cameras)
    return Views(torch.rand(scenes, count, 3, SIZE, SIZE, generator=generator) * 2 - 1, cameras)


def denoiser(grid: SceneGrid = CUBE, resolution: int | list[int] = 4, **settings: Any) -> VolumeDenoiser:
    """A tiny one whose parameters are all other than zero."""
    torch.manual_seed(0)
    model = VolumeDenoiser(
        grid, resolution, 4, [8, 8], 6, [8, 8], volume_channels=5, decoder_width=8, condition_width=12, **settings
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.use_process(CosineProcess())
    return model.eval()


def estimate_renderer(**settings: Any) -> VolumeRendering:
    """What renders the estimate for the 2D network."""
    return VolumeRendering(2.0, 8.0, 6, **{"fine_samples": 0, "jitter": False, **settings})


def model_of(
    scene_colours: int = 0,
    estimated: bool = False,
    looks: int = 0,
    warm_start_noises: int = 1,
    image_noises: int = 0,
    **settings: Any,
) -> InverseGraphics:
    """A whole task around it."""
    own: dict[str, Any] = {"warm_start_noises": warm_start_noises, "image_noises": image_noises}
    if estimated:
        own |= {"estimate_renderer": estimate_renderer(), "estimate_reduction": 2}
    return InverseGraphics(
        denoiser(scene_colours=scene_colours, blurred_inputs=scene_colours > 0, hidden_colours=looks, **own),
        VolumeRendering(2.0, 8.0, 8, 0, patch_size=4),
        objective=SceneObjective(
            estimate_weight=0.0, proposal_weight=0.0, distortion_weight=0.0, smoothness_weight=0.0
        ),
        samples=2,
        **settings,
    )


def batch_of(contexts: int, novel: int) -> Batch:
    """A batch of two scenes with random images."""
    views = views_of(contexts + 1 + novel)
    bounds = (slice(contexts), slice(contexts, contexts + 1), slice(contexts + 1, None))
    return Batch(*(select_views(views, part) for part in bounds), key=["a", "b"], truth={})
