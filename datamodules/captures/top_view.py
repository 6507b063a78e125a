"""Draw cameras and points from above."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from dfm_lightning.geometry.cameras import look_at
from dfm_lightning.geometry.trajectories import up_direction

# Points beyond this share of them, on either side, are not shown.
_SHOWN = (2.0, 98.0)


def draw_top_view(
    path: Path,
    camera_to_world: Float64[Tensor, "v 4 4"],
    points: Float64[np.ndarray, "p 3"],
    colours: UInt8[np.ndarray, "p 3"],
    title: str,
) -> None:
    """Write a PNG of the points in their colours, and of the cameras and their viewing directions, in red.

    The first camera is at the bottom and looks up; "above" is the side that the cameras hold up.
    """
    # (matplotlib takes a second to import.)
    from matplotlib.figure import Figure

    flat = _seen_from_above(camera_to_world)
    seen = points @ flat
    positions = camera_to_world[:, :3, 3].numpy() @ flat
    directions = camera_to_world[:, :3, 2].numpy() @ flat
    low, high = np.percentile(np.concatenate([seen, positions]), _SHOWN, axis=0)
    low, high = np.minimum(low, positions.min(axis=0)), np.maximum(high, positions.max(axis=0))
    margin = 0.05 * (high - low).max()
    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(seen[:, 0], seen[:, 1], s=1, c=colours / 255)
    axes.quiver(*positions.T, *directions.T, color="red", angles="xy", width=0.003)
    for number in (0, len(positions) - 1):
        axes.annotate(f"{number + 1}", positions[number], color="red")
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")
    axes.set_title(title)
    figure.savefig(path, dpi=100, format="png")


def _seen_from_above(camera_to_world: Float64[Tensor, "v 4 4"]) -> Float64[np.ndarray, "3 2"]:
    """Return two axes across the up direction: to the right of the first camera, and along its view."""
    up = up_direction(camera_to_world)
    forward = camera_to_world[0, :3, 2]
    if torch.linalg.cross(forward, up).norm() < 1e-3:
        forward = -camera_to_world[0, :3, 1]
    level = look_at(torch.zeros(3, dtype=torch.float64), forward - (forward @ up) * up, up)
    return level[:3, [0, 2]].numpy()
