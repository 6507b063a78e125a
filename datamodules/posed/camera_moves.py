"""Camera moves: straight on, around the object in view, to the side and back, in a spiral."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import look_at

MoveKind = Literal["forward", "orbit", "sway", "spiral"]


@dataclass
class CameraMove:
    """A move of the camera in a prediction.

    Args:
        kind: forward: straight on. orbit: on a circle around the centre of the scene, looking at it. sway: to the
            side and back, looking at it. spiral: on a circle across the viewing direction while going forward and
            back, looking at it.
        size: extent of the move, in units of the distance to the centre of the scene: the way forward, the length
            of the arc (6.28 is once around), the greatest way to the side, the diameter of the spiral. To the
            right if positive.
        frames: number of cameras. The first is the context's.
        elevation: of an orbit: how far above the horizon the first camera stands as seen from the centre, in
            degrees. The orbit keeps this height, with the horizon level.
    """

    kind: MoveKind = "forward"
    size: float = 0.5
    frames: int = 48
    elevation: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.size) or self.frames < 2:
            raise UserError(f"a camera move needs a finite size and at least 2 frames, not {self}")
        if not -90 < self.elevation < 90 or (self.elevation and self.kind != "orbit"):
            raise UserError(f"a camera move's elevation is between -90 and 90 degrees, and an orbit's, not {self}")

    def poses(self, distance: float) -> Float64[Tensor, "n 4 4"]:
        """Make camera-to-world poses in the frame of the first camera, which looks at a point at this distance."""
        part = torch.linspace(0, 1, self.frames, dtype=torch.float64)
        turn, zero, reach = 2 * math.pi * part, torch.zeros_like(part), self.size * distance
        middle = torch.tensor([0.0, 0.0, distance], dtype=torch.float64).expand(self.frames, 3)
        there_and_back = (1 - turn.cos()) / 2 * reach
        up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
        if self.kind == "forward":
            position = torch.stack([zero, zero, part * reach], dim=1)
            return look_at(position, position + middle, up)
        if self.kind == "orbit":
            angle, elevation = part * self.size, math.radians(self.elevation)
            up = torch.tensor([0.0, -math.cos(elevation), -math.sin(elevation)], dtype=torch.float64)
            position = middle - turned_around(up, angle) * distance
        elif self.kind == "sway":
            position = torch.stack([there_and_back, zero, zero], dim=1)
        else:
            position = torch.stack([turn.sin() * reach / 2, -there_and_back.abs(), there_and_back.abs()], dim=1)
        return look_at(position, middle, up)


def turned_around(axis: Float64[Tensor, "3"], angles: Float64[Tensor, " n"]) -> Float64[Tensor, "n 3"]:
    """Rotate the viewing direction (0, 0, 1) around a unit axis by angles in radians (Rodrigues)."""
    forward = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    along = axis * (axis @ forward)
    across = torch.linalg.cross(axis, forward)
    cosines, sines = angles.cos()[:, None], angles.sin()[:, None]
    return along + (forward - along) * cosines + across * sines
