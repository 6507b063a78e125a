"""Views for tasks that start from the first frame."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.image_files import UnreadableError
from datamodules.posed.from_first_frame import FromFirstFrame
from datamodules.posed.scenes import Scene
from datamodules.posed.views import Roles


class Numbers(Scene):
    """Frames without pictures."""

    def __init__(self, positions: list[int], prescribed: tuple[int, ...] = ()) -> None:
        count = max(positions) + 1
        super().__init__("numbers", torch.eye(4).expand(count, 4, 4), torch.eye(3).expand(count, 3, 3))
        self.positions = positions
        self.prescribed = prescribed

    def usable_positions(self) -> list[int]:
        return self.positions

    def frame(self, position: int) -> None:  # type: ignore[override]
        raise AssertionError("no picture is asked for")

    def mask(self, position: int, size: int) -> Tensor:
        raise AssertionError("no mask is asked for")


def drawn(positions: list[int], choice: FromFirstFrame, times: int) -> list[Roles]:
    torch.manual_seed(0)
    return [choice.draw(Numbers(positions)) for _ in range(times)]


@settings(max_examples=100, deadline=None)
@given(
    positions=st.sets(st.integers(0, 60), min_size=8, max_size=40).map(sorted),
    contexts=st.integers(1, 3),
    novel=st.integers(0, 4),
    low=st.integers(1, 20),
    span=st.integers(0, 20),
)
def test_the_first_frame_is_the_first_context_and_all_views_differ(
    positions: list[int], contexts: int, novel: int, low: int, span: int
) -> None:
    for roles in drawn(positions, FromFirstFrame(contexts, novel, (low, low + span)), 3):
        assert roles.context[0] == positions[0]
        assert len(set(roles.positions())) == contexts + 1 + novel
        assert set(roles.positions()) <= set(positions)
        far_enough = any(low <= position - positions[0] <= low + span for position in positions)
        if far_enough:
            assert low <= roles.target - positions[0] <= low + span
        else:
            assert roles.target == positions[-1]


def test_targets_are_drawn_evenly_and_the_rest_from_everywhere() -> None:
    roles = drawn(list(range(3, 19)), FromFirstFrame(2, 1, (4, 8)), 4000)
    counts = [sum(each.target == position for each in roles) for position in range(7, 12)]
    # Binomial: mean 800, standard deviation 25.
    assert sum(counts) == 4000
    assert max(abs(count - 800) for count in counts) < 100
    assert {each.context[1] for each in roles} == {each.novel[0] for each in roles} == set(range(4, 19))


@pytest.mark.parametrize(
    ("prescribed", "target"), [((), 9), ((5, 3), 5), ((3,), 9)], ids=["none", "a target", "the first frame"]
)
def test_evaluation_takes_the_first_frame_and_novel_views_all_along(
    prescribed: tuple[int, ...], target: int
) -> None:
    roles = FromFirstFrame(2, 4, (4, 8)).choose(Numbers(list(range(3, 19)), prescribed), 4)
    assert (roles.context, roles.target) == ([3], target)
    parts = [(position - 4) * 4 // 15 for position in roles.novel]
    assert parts == [0, 1, 2, 3]


def test_a_short_scene_gives_what_it_has_to_an_evaluation_and_is_refused_by_training() -> None:
    choice = FromFirstFrame(1, 4, (10, 20))
    assert choice.choose(Numbers([0, 1, 2]), 4) == Roles([0], 2, [1])
    with pytest.raises(UnreadableError, match="numbers"):
        choice.draw(Numbers([0, 1, 2]))
