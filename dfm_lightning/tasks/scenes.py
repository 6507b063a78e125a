"""The results of inverse graphics: rendered views, sampled scenes, tested scenes."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.trajectories import comes_back
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, Views, concatenate, select_views
from dfm_lightning.wording import counted


class RenderedViews(NamedTuple):
    """Images of scenes in [-1, 1]; depth as the distance along the unit ray, Σ w z, and opacity, Σ w."""

    image: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v 1 h w"]
    opacity: Float[Tensor, "b v 1 h w"]


class SampledScene(NamedTuple):
    """A sampled scene as `dfm predict` passes it to a writer, with its frames' depth and opacity.

    `views` are those the field was made from, the context first, then the sampled ones in order. `renderer`
    renders the field at the prediction's own cameras.
    """

    field: RadianceField
    views: Views
    depth: Float[Tensor, "v 1 h w"]
    opacity: Float[Tensor, "v 1 h w"]
    renderer: VolumeRendering


class SynthesisedViews(NamedTuple):
    """Views that do not come from one scene, as `dfm predict` gives them to a writer beside their images."""

    views: Views
    depth: Float[Tensor, "v 1 h w"]
    opacity: Float[Tensor, "v 1 h w"]


class EvaluatedScene(NamedTuple):
    """A test scene's true views, and the same views of samples and of the deterministic estimate. On the CPU.

    `roles` says of each of the v views whether it is a "context", the "target" or a "novel" one; images are in
    [-1, 1], depth as in `RenderedViews`. `seen` marks what a context view also shows, by the depth of most
    samples. `known` holds further truth, all views in one tensor: for synthetic scenes `distance` [v 1 h w] along
    the unit ray in scene units, 0 where there is none (see `LookLaw` for the others); for crops `valid` [v 1 h w],
    the part that lies in the picture; and `angle` [v] (see `angles_to_nearest`).
    """

    key: str
    roles: list[str]
    truth: Float[Tensor, "v 3 h w"]
    samples: Float[Tensor, "s v 3 h w"]
    sample_depths: Float[Tensor, "s v 1 h w"]
    estimate: Float[Tensor, "v 3 h w"]
    estimate_depth: Float[Tensor, "v 1 h w"]
    seen: Bool[Tensor, "v 1 h w"]
    known: dict[str, Tensor]


def angles_to_nearest(cameras: Cameras, contexts: int) -> Float[Tensor, "b v"]:
    """Measure each camera's angle to the nearest context camera, in degrees, seen from the world's origin.

    The first `contexts` of each scene's v cameras are those of the context.
    """
    direction = torch.nn.functional.normalize(cameras.absolute_pose[..., :3, 3].double(), dim=-1)
    cosine = direction @ direction[:, :contexts].mT
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).amin(dim=-1).float()


def frames_to_sample(
    camera_to_world: Float[Tensor, "v 4 4"], steps: int, farthest_first: bool = False
) -> list[int]:
    """Choose the frames of a trajectory to sample one after the other; the trajectory begins at the context.

    They divide it into equal parts. If it returns to its start, context and sampled frames are equally far from
    their neighbours. Otherwise the last sampled frame is its end, so that the views there are sampled, not
    extrapolated by a field.

    Args:
        camera_to_world: poses along the trajectory.
        steps: number of frames.
        farthest_first: each next frame is the one farthest, in frames, from the context and those before it; else
            they follow each other along the trajectory.

    Raises:
        UserError: the trajectory is too short.
    """
    frames = len(camera_to_world)
    if steps >= frames:
        raise UserError(
            f"autoregressive_steps must be below the {counted(frames, 'frame')} of the trajectory, got {steps}"
        )
    closed = comes_back(camera_to_world)
    if closed:
        chosen = [part * frames // (steps + 1) for part in range(1, steps + 1)]
    else:
        chosen = [part * (frames - 1) // steps for part in range(1, steps + 1)]
    return _farthest_first(chosen, {0, frames} if closed else {0}) if farthest_first else chosen


def _farthest_first(frames: list[int], known: set[int]) -> list[int]:
    """Sort frames so that each is the farthest from those known and those before it; of equals, the first."""
    order: list[int] = []
    while len(order) < len(frames):
        left = [frame for frame in frames if frame not in order]
        order.append(max(left, key=lambda frame: min(abs(frame - other) for other in known.union(order))))
    return order


def render_views(
    renderer: VolumeRendering, field: RadianceField, cameras: Cameras, after_each: Callable[[], None]
) -> RenderedViews:
    """Render view after view, so that memory does not grow with their number; call `after_each` after each."""
    views = []
    for view in range(cameras.pixels.shape[1]):
        observed = renderer.observe(field, select_views(cameras, slice(view, view + 1)))
        details = observed.auxiliary
        views.append(RenderedViews(observed.observation, details.depth, details.opacity))
        after_each()
    return concatenate(views, dim=1)
