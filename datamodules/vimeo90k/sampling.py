"""The choice of context, target and novel frames in a clip."""

from typing import Literal, NamedTuple

import torch

from dfm_lightning.errors import UserError

Direction = Literal["forward", "backward", "both"]


class FrameRoles(NamedTuple):
    """Positions in a clip. The novel frames lie between context and target."""

    context: int
    target: int
    novel: list[int]

    def times(self) -> list[float]:
        """Return each novel frame's share of the way from context to target."""
        return [(position - self.context) / (self.target - self.context) for position in self.novel]


class PairChoice(NamedTuple):
    """The rule for choosing frames: least and greatest distance, direction in time, frames in between."""

    distance: tuple[int, int]
    direction: Direction
    novel: int

    def check(self, frames: int) -> None:
        """Raise UserError if clips of this many frames cannot be used with the rule."""
        least, greatest = self.distance
        if not 1 <= least <= greatest < frames:
            raise UserError(
                f"frame_distance must be a least and a greatest number within 1 and {frames - 1}, not "
                f"{list(self.distance)}: clips have {frames} frames"
            )
        if not 0 <= self.novel < least:
            raise UserError(
                f"novel_frames lie between context and target: with frames {least} apart there are {least - 1}, "
                f"not {self.novel}"
            )


def draw_roles(frames: int, choice: PairChoice) -> FrameRoles:
    """Draw roles from torch's global generator: distance, start, direction and novel frames are uniform."""
    distance = int(torch.randint(choice.distance[0], choice.distance[1] + 1, ()))
    start = int(torch.randint(frames - distance, ()))
    between = (torch.randperm(distance - 1)[: choice.novel] + start + 1).sort().values.tolist()
    backward = choice.direction == "backward"
    if choice.direction == "both":
        backward = bool(torch.randint(2, ()))
    return _directed(start, start + distance, between, backward)


def fixed_roles(frames: int, choice: PairChoice) -> FrameRoles:
    """Return the same roles every time: the greatest distance, in the middle of the clip, forward if allowed."""
    distance = choice.distance[1]
    start = (frames - 1 - distance) // 2
    steps = torch.arange(1, choice.novel + 1) * distance / (choice.novel + 1)
    between = [start + max(1, round(step)) for step in steps.tolist()]
    return _directed(start, start + distance, between, choice.direction == "backward")


def _directed(first: int, last: int, between: list[int], backward: bool) -> FrameRoles:
    return FrameRoles(last, first, between[::-1]) if backward else FrameRoles(first, last, between)
