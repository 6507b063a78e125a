"""Generators named by the user's seed and a purpose."""

import pytest
import torch

from dfm_lightning.randomness import generator_for, named_noise, user_seed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")


def first_numbers(*names: str | int, seed: int | None = None) -> list[float]:
    return torch.rand(4, generator=generator_for(*names, seed=seed)).tolist()


def test_the_seed_is_lightnings() -> None:
    assert user_seed() == 7


def test_without_a_seed_it_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert user_seed() == 0


def test_equal_names_have_equal_numbers_whatever_was_drawn_in_between() -> None:
    before = first_numbers("predict", "apple", 3)
    torch.rand(100)
    assert first_numbers("predict", "apple", 3) == before


def test_other_names_other_numbers() -> None:
    names = [("a",), ("b",), ("a", 0), ("a", 1), ("a", "b"), ("ab",), ("a", 0, 1), ("a", 10)]
    assert len({tuple(first_numbers(*name)) for name in names}) == len(names)


def test_another_seed_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_seven = first_numbers("apple")
    monkeypatch.setenv("PL_GLOBAL_SEED", "8")
    assert first_numbers("apple") != with_seven
    assert first_numbers("apple", seed=7) == with_seven


def test_numbers_stay_what_they_are() -> None:
    # Should these change, samples drawn by an earlier version cannot be drawn again.
    assert generator_for("predict", "apple", 0).initial_seed() == 4807051209171216924


def test_a_rows_noise_does_not_depend_on_the_other_rows() -> None:
    names = [("apple", 0), ("apple", 1), ("pear", 0)]
    together = named_noise(names, (2, 3), CPU)
    alone = [named_noise([name], (2, 3), CPU)[0] for name in reversed(names)]
    assert torch.equal(together, torch.stack(alone[::-1]))


def test_noise_is_standard_normal_within_and_between_rows() -> None:
    noise = named_noise([("row", i) for i in range(400)], (100,), CPU)
    for spread in (noise.std(), noise.mean(dim=1).std() * 10, noise.mean(dim=0).std() * 20):
        assert spread.item() == pytest.approx(1, abs=0.15)


def test_torchs_own_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    named_noise([("a",)], (3,), CPU)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_noise_does_not_depend_on_the_default_precision(default: torch.dtype) -> None:
    expected = named_noise([("a", 1), ("b", 2)], (3, 40), torch.device("cpu"))
    torch.set_default_dtype(default)
    try:
        noise = named_noise([("a", 1), ("b", 2)], (3, 40), torch.device("cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, expected)
