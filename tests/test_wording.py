"""Numbers agree with their nouns."""

import pytest

from dfm_lightning.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "scene", "0 scenes"), (1, "scene", "1 scene"), (2, "patch", "2 patches"), (1, "process", "1 process")],
)
def test_one_is_singular(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_an_irregular_plural_is_given() -> None:
    assert counted(2, "index", "indices") == "2 indices"
