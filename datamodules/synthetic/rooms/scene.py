"""One synthetic scene: a house, a camera's path through it, and the part that its first frame does not show."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from datamodules.synthetic.rooms.floor_plan import draw_floor_plan
from datamodules.synthetic.rooms.furnishing import empty_house, furnished_house
from datamodules.synthetic.rooms.tracing import Matrix3, Matrix4, cell_at, trace, trace_view
from datamodules.synthetic.rooms.walks import Poses, fit_path, is_blind, walk
from datamodules.synthetic.rooms.world import Colour, House
from dfm_lightning.errors import UserError

ROOMS = 3
_PLANS_TRIED = 200


class Paint(NamedTuple):
    """A colour of the walls behind the door, and its probability."""

    probability: float
    colour: Colour


WALLS_BEHIND: dict[str, Paint] = {
    "yellow": Paint(0.4, (0.92, 0.78, 0.2)),
    "blue": Paint(0.35, (0.2, 0.4, 0.85)),
    "red": Paint(0.25, (0.85, 0.22, 0.18)),
}
"""The colours of the second room's walls; drawn independently of all else."""


class Scene(NamedTuple):
    """A house and the cameras in it; `walls_behind` names the colour of the second room's walls."""

    house: House
    camera_to_world: Poses
    intrinsics: Matrix3
    walls_behind: str


def draw_scene(
    visible: np.random.Generator,
    hidden: np.random.Generator,
    frames: int,
    intrinsics: Matrix3 | None = None,
    camera_path: Poses | None = None,
    empty: bool = False,
) -> Scene:
    """Draw a random scene.

    Args:
        visible: decides on everything but the colour of the walls behind the door.
        hidden: decides on that colour.
        frames: number of frames of the walk.
        intrinsics: of all frames, normalised; drawn at random unless given.
        camera_path: poses to follow instead of a walk, turned, scaled and moved so that they fit in.
        empty: whether the rooms are empty, with plain walls and floors.
    """
    if intrinsics is None:
        focal = visible.uniform(0.48, 0.58)
        intrinsics = np.array([[focal, 0, 0.5], [0, focal * 16 / 9, 0.5], [0, 0, 1]])
    name = str(hidden.choice(list(WALLS_BEHIND), p=[paint.probability for paint in WALLS_BEHIND.values()]))
    for _ in range(_PLANS_TRIED):
        plan = draw_floor_plan(visible, ROOMS)
        if camera_path is None:
            poses = walk(visible, plan, intrinsics, frames)
        else:
            poses = fit_path(visible, plan, camera_path)
        if poses is not None:
            behind = WALLS_BEHIND[name].colour
            if empty:
                house = empty_house(visible, plan, behind)
            else:
                house = furnished_house(visible, plan, poses[:, [0, 2], 3], behind)
            return Scene(house, poses, intrinsics, name)
    raise UserError(f"the camera path fits into none of {_PLANS_TRIED} houses: it turns or climbs too much")


def hidden_from_first(scene: Scene, frame: int, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """Find the pixels of a frame that show something that the first frame does not."""
    first = scene.camera_to_world[0]
    seen = trace_view(scene.house, scene.camera_to_world[frame], scene.intrinsics, height, width)
    visible = _in_view(seen.point, first, scene.intrinsics)
    visible[visible] = _in_sight(scene.house, seen.point[visible], first)
    return ~visible.reshape(height, width)


def shows_nothing_behind(scene: Scene) -> bool:
    """Tell whether the first frame sees only the first room and the doorway out of it."""
    return is_blind(scene.house, scene.camera_to_world[0], scene.intrinsics)


def _in_view(points: np.ndarray, pose: Matrix4, intrinsics: Matrix3) -> Bool[np.ndarray, " n"]:
    """Find the points [n, 3] that are projected into a camera's image."""
    x, y, z = intrinsics @ (pose[:3, :3].T @ (points - pose[:3, 3]).T)
    return (z > 0) & (x >= 0) & (x <= z) & (y >= 0) & (y <= z)


def _in_sight(house: House, points: np.ndarray, pose: Matrix4) -> Bool[np.ndarray, " n"]:
    """Find the points [n, 3] of surfaces that nothing hides from a camera."""
    origins = np.broadcast_to(pose[:3, 3], points.shape).astype(np.float32)
    distances = np.linalg.norm(points - origins, axis=1)
    directions = ((points - origins) / distances[:, None]).astype(np.float32)
    hits = trace(house, origins, directions, cell_at(house, pose[:3, 3]))
    return hits.distance >= distances - 0.02
