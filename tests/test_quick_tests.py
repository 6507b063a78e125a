"""`pytest --quick` leaves out what is slow, and says of what it runs if that is slow too."""

from pathlib import Path

import pytest
import quick_tests

pytest_plugins = ["pytester"]
FILE = """
import pytest

def busy():
    sum(range(3_000_000))

@pytest.mark.slow
def test_marked():
    busy()

def test_first():
    busy()

def test_second():
    busy()
"""


@pytest.fixture
def tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setattr(quick_tests, "TESTS", pytester.path)
    monkeypatch.setattr(quick_tests, "LEFT_OUT", ["test_listed.py", "folder"])
    for name in ("test_listed.py", "test_other.py", "folder/test_within.py"):
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FILE)
    pytester.makeini("[pytest]\nmarkers = slow: slow")
    return pytester


@pytest.mark.parametrize(("options", "passed"), [(("--quick",), 2), ((), 9)])
def test_marked_tests_and_listed_files_are_left_out(
    tests: pytest.Pytester, options: tuple[str, ...], passed: int
) -> None:
    tests.runpytest_inprocess("-p", "quick_tests", *options).assert_outcomes(
        passed=passed, deselected=1 if options else 0
    )


@pytest.mark.parametrize(("options", "errors"), [(("--quick",), 1), ((), 0)])
def test_a_file_over_the_limit_fails_once_by_name(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], errors: int
) -> None:
    monkeypatch.setattr(quick_tests, "LIMIT", 0.001)
    result = tests.runpytest_inprocess("-p", "quick_tests", *options, "test_other.py")
    result.assert_outcomes(passed=2 if options else 3, deselected=1 if options else 0, errors=errors)
    assert ("test_other.py takes" in result.stdout.str()) == (errors == 1)


def test_what_is_listed_exists() -> None:
    tests = Path(__file__).parent
    assert [name for name in quick_tests.LEFT_OUT if not (tests / name).exists()] == []
