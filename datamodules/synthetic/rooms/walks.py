"""Camera paths through a floor plan: a walk from one room through a door into the next, or a given path."""

import numpy as np
from jaxtyping import Float

from datamodules.synthetic.rooms.floor_plan import Doorway, FloorPlan, Rectangle
from datamodules.synthetic.rooms.furnishing import bare_house
from datamodules.synthetic.rooms.tracing import Matrix3, Matrix4, trace_view
from datamodules.synthetic.rooms.world import House

Poses = Float[np.ndarray, "n 4 4"]
EYE_HEIGHT = 1.45
WALL_MARGIN = 0.4


def smooth_curve(waypoints: Float[np.ndarray, "k 2"], count: int) -> Float[np.ndarray, "n 2"]:
    """Return points at equal distances along a Catmull-Rom spline through waypoints."""
    padded = np.concatenate([2 * waypoints[:1] - waypoints[1:2], waypoints, 2 * waypoints[-1:] - waypoints[-2:-1]])
    t = np.linspace(0, 1, 200, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    dense = np.concatenate([*pieces, waypoints[-1:]])
    travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    wanted = np.linspace(0, travelled[-1], count)
    return np.stack([np.interp(wanted, travelled, dense[:, axis]) for axis in range(2)], axis=1)


def poses_looking(positions: Float[np.ndarray, "n 3"], yaw: np.ndarray, pitch: np.ndarray) -> Poses:
    """Build camera-to-world matrices at positions; yaw 0 looks along z and grows towards x, pitch is downward."""
    sin_y, cos_y, sin_p, cos_p = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    zero = np.zeros_like(yaw)
    right = np.stack([cos_y, zero, -sin_y], axis=-1)
    forward = np.stack([sin_y * cos_p, sin_p, cos_y * cos_p], axis=-1)
    down = np.cross(forward, right)
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3] = np.stack([right, down, forward, positions], axis=-1)
    return poses


def walk(
    random: np.random.Generator, plan: FloorPlan, intrinsics: Matrix3, frames: int, attempts: int = 60
) -> Poses | None:
    """Draw a walk from the first room through its door into the second, looking ahead and slightly around.

    The first frame shows nothing behind the doorway, the last one hardly anything else. None if no attempt
    succeeds.
    """
    house = bare_house(plan)
    for _ in range(attempts):
        poses = _attempt(random, plan, frames)
        if not plan.contains(poses[:, [0, 2], 3], 0.2):
            continue
        if (trace_view(house, poses[-1], intrinsics, 18, 32).cell == 0).mean() > 0.2:
            continue
        if is_blind(house, poses[0], intrinsics):
            return poses
    return None


def is_blind(house: House, camera_to_world: Matrix4, intrinsics: Matrix3) -> bool:
    """Tell whether a camera sees the first room and the doorway out of it, but nothing behind."""
    seen = trace_view(house, camera_to_world, intrinsics, 90, 160).cell
    return bool(np.isin(seen, (0, house.rooms)).all())


def _attempt(random: np.random.Generator, plan: FloorPlan, frames: int) -> Poses:
    doorway = plan.doorways[0]
    before = doorway.centre - doorway.direction * random.uniform(0.7, 1.0)
    behind = doorway.centre + doorway.direction * random.uniform(0.8, 1.1)
    start = _point_beside(random, plan.rooms[0], doorway)
    end = behind + doorway.direction * random.uniform(0.3, 0.9) + _sideways(doorway) * random.uniform(-0.6, 0.6)
    path = smooth_curve(np.stack([start, before, behind, end]), frames)
    ahead = _ahead(path, 1.2) - path
    yaw = _smoothed(np.unwrap(np.arctan2(ahead[:, 0], ahead[:, 1])), max(1, frames // 10))
    turn = np.linspace(0, 2 * np.pi * random.uniform(0.5, 1.3), frames) + random.uniform(0, 2 * np.pi)
    yaw = yaw + np.deg2rad(random.uniform(3, 9)) * np.sin(turn)
    pitch = np.deg2rad(3 + 3 * np.sin(1.4 * turn))
    height = -(EYE_HEIGHT + 0.03 * np.sin(3 * turn))
    return poses_looking(np.stack([path[:, 0], height, path[:, 1]], axis=1), yaw, pitch)


def _sideways(doorway: Doorway) -> np.ndarray:
    return np.array([-doorway.direction[1], doorway.direction[0]])


def _point_beside(random: np.random.Generator, room: Rectangle, doorway: Doorway) -> np.ndarray:
    """Draw a point of a room from which one looks into its doorway at a flat angle."""
    inner = room.grown(-0.5)
    points = random.uniform([inner.x[0], inner.z[0]], [inner.x[1], inner.z[1]], size=(64, 2))
    to_door = doorway.centre - points
    distance = np.linalg.norm(to_door, axis=1)
    slant = np.abs(to_door @ _sideways(doorway)) / distance
    good = points[(slant > 0.8) & (distance > 1.8)]
    return good[0] if len(good) else points[np.argmax(slant * distance)]


def _ahead(path: np.ndarray, distance: float) -> np.ndarray:
    """Return for each point of a path, evenly spaced, the point a distance further on (beyond its end: straight
    on).
    """
    step = np.linalg.norm(path[1] - path[0])
    extra = int(np.ceil(distance / step)) + 1
    tangent = (path[-1] - path[-2])[None] * np.arange(1, extra + 1)[:, None]
    longer = np.concatenate([path, path[-1] + tangent])
    return longer[np.arange(len(path)) + extra - 1]


def _smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Apply a moving average that keeps the length."""
    padded = np.pad(values, width, mode="edge")
    return np.convolve(padded, np.ones(2 * width + 1) / (2 * width + 1), mode="valid")


def fit_path(
    random: np.random.Generator, plan: FloorPlan, camera_to_world: Poses, attempts: int = 400
) -> Poses | None:
    """Place a given camera path in a plan, turned about the vertical, scaled and moved, so that it hits no wall.

    Paths that go through a door are preferred. None if no attempt fits.
    """
    relative = np.linalg.inv(camera_to_world[0]) @ camera_to_world
    length = np.linalg.norm(np.diff(relative[:, :3, 3], axis=0), axis=1).sum()
    best: Poses | None = None
    for _ in range(attempts):
        room = plan.rooms[random.integers(len(plan.rooms))].grown(-WALL_MARGIN)
        x, z = random.uniform(*room.x), random.uniform(*room.z)
        start = poses_looking(np.array([[x, -EYE_HEIGHT, z]]), random.uniform(0, 2 * np.pi, 1), np.zeros(1))[0]
        scaled = relative.copy()
        scaled[:, :3, 3] *= random.uniform(1.0, 4.5) / max(float(length), 1e-6)
        poses = start @ scaled
        height = poses[:, 1, 3]
        if height.min() < -2.3 or height.max() > -0.4 or not plan.contains(poses[:, [0, 2], 3], WALL_MARGIN):
            continue
        ends = poses[[0, -1]][:, [0, 2], 3]
        if not any(area.grown(0.05).distances(ends).max() <= 0 for area in plan.rooms):
            return poses
        best = best if best is not None else poses
    return best
