"""Which frames become context, target and novel views."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.posed.two_ends import choose_roles, draw_roles, spread


@given(
    st.sets(st.integers(0, 300), min_size=5, max_size=120),
    st.integers(1, 2),
    st.integers(0, 2),
    st.tuples(st.integers(1, 60), st.integers(0, 60)),
    st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_drawn_roles(available: set[int], contexts: int, novel: int, distance: tuple[int, int], seed: int) -> None:
    positions = sorted(available)
    low, high = distance[0], sum(distance)
    torch.manual_seed(seed)
    roles = draw_roles(positions, contexts, novel, (low, high))
    everything = roles.positions()
    assert len(everything) == len(set(everything)) == contexts + 1 + novel
    assert set(everything) <= available
    start, end = sorted((roles.context[0], roles.target))
    assert all(start < position < end for position in everything if position not in (start, end))
    if low <= end - start <= high:
        return
    # Outside the range only where there is no choice: then first and last.
    assert (start, end) == (positions[0], positions[-1])
    inner = [
        (a, b) for i, a in enumerate(positions) for b in positions[i + contexts + novel :] if low <= b - a <= high
    ]
    assert not inner


def test_every_distance_and_direction_is_drawn() -> None:
    torch.manual_seed(0)
    drawn = [draw_roles(list(range(40)), 1, 1, (3, 6)) for _ in range(2000)]
    signed = Counter(roles.target - roles.context[0] for roles in drawn)
    assert set(signed) == {-6, -5, -4, -3, 3, 4, 5, 6}
    backward = sum(count for distance, count in signed.items() if distance < 0)
    # Binomial(2000, ½): five standard deviations.
    assert abs(backward - 1000) < 5 * math.sqrt(500)
    # Each place of a novel view between context and target.
    assert {abs(roles.novel[0] - roles.context[0]) for roles in drawn} == {1, 2, 3, 4, 5}


def test_chosen_roles_are_always_the_same_and_in_range() -> None:
    positions = list(range(5, 200))
    roles = choose_roles(positions, 1, 3, (100, 180))
    assert roles == choose_roles(positions, 1, 3, (100, 180))
    assert roles.context == [5]
    assert roles.target == 145
    assert roles.novel == sorted(set(roles.novel))
    assert all(5 < position < 145 for position in roles.novel)


@pytest.mark.parametrize("length", [2, 3, 4, 6])
def test_chosen_roles_of_short_scenes(length: int) -> None:
    positions = list(range(0, 2 * length, 2))
    novel = min(3, length - 2)
    roles = choose_roles(positions, 1, novel, (100, 180))
    assert sorted(roles.positions()) == sorted(set(roles.positions()))
    assert roles.target == positions[-1]
    assert len(roles.novel) == novel


def test_spread_takes_different_positions_evenly() -> None:
    assert spread(list(range(9)), 3) == [1, 4, 7]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 2) == []
