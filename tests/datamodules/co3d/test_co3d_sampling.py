"""Roles of frames, in training and in evaluation."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.posed.back_from_target import choose_roles, distance_range, draw_roles


@settings(max_examples=200, deadline=None)
@given(
    contexts=st.integers(1, 4),
    extra=st.integers(1, 200),
    low=st.integers(1, 30),
    span=st.integers(0, 30),
    seed=st.integers(0, 10_000),
)
def test_drawn_roles_are_distinct_and_as_far_apart_as_asked(
    contexts: int, extra: int, low: int, span: int, seed: int
) -> None:
    frames = contexts + extra
    torch.manual_seed(seed)
    roles = draw_roles(frames, contexts, 2, (low, low + span))
    line = [roles.target, *roles.context]
    assert all(0 <= position < frames for position in (*line, *roles.novel))
    steps = [second - first for first, second in pairwise(line)]
    assert len({step > 0 for step in steps}) == 1
    least, most = distance_range(frames, contexts, (low, low + span))
    assert all(least <= abs(step) <= most for step in steps)
    if frames > contexts * (low + span):
        assert (least, most) == (low, low + span)
    assert roles.target not in roles.novel
    assert all(min(line) <= position <= max(line) for position in roles.novel)


def test_both_directions_and_all_starts_are_drawn() -> None:
    torch.manual_seed(0)
    drawn = [draw_roles(60, 2, 1, (5, 10)) for _ in range(2000)]
    forward = [roles.target > roles.context[0] for roles in drawn]
    assert 0.45 < sum(forward) / len(drawn) < 0.55
    ends = {roles.context[-1] for roles in drawn} | {roles.target for roles in drawn}
    assert ends == set(range(60))
    assert {abs(roles.target - roles.context[0]) for roles in drawn} == set(range(5, 11))


def test_novel_views_may_come_from_anywhere() -> None:
    torch.manual_seed(0)
    drawn = [draw_roles(30, 1, 1, (1, 3), "anywhere") for _ in range(2000)]
    assert {abs(roles.novel[0] - roles.target) for roles in drawn} == set(range(30))


def test_distances_shrink_in_short_sequences() -> None:
    assert distance_range(200, 3, (20, 40)) == (20, 40)
    assert distance_range(61, 3, (20, 40)) == (20, 20)
    assert distance_range(31, 3, (20, 40)) == (10, 10)
    assert distance_range(2, 1, (20, 40)) == (1, 1)


@pytest.mark.parametrize(
    ("given", "context", "target"),
    [
        ([], 0, 15),  # a third of the 45 frames is less than 20
        ([7, 30], 30, 7),
        ([20], 5, 20),
        ([3], 18, 3),
    ],
    ids=["no batch", "target and known frame", "target alone", "target alone near the start"],
)
def test_evaluation_roles(given: list[int], context: int, target: int) -> None:
    roles = choose_roles(list(range(45)), given, 5, (15, 25))
    assert (roles.context, roles.target) == ([context], target)
    assert len(set(roles.novel)) == 5
    assert not {context, target} & set(roles.novel)
    gaps = [b - a for a, b in pairwise(roles.novel)]
    assert max(gaps) - min(gaps) <= 3


def test_evaluation_stays_within_the_split() -> None:
    roles = choose_roles([4, 8, 12, 16], [], 9, (1, 1))
    assert (roles.context, roles.target, roles.novel) == ([4], 8, [12, 16])
