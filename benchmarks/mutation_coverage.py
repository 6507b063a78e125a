"""Which tests run which lines of the core, and how long they take (see mutation.py)."""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mutants import ROOT, Mutant

PACKAGE = ROOT / "dfm_lightning"
# The quick tests of the core's own folders: those of the command line and the like run it too, but take long.
FOLDERS = ("diffusion", "forward_models", "denoisers", "losses", "metrics", "geometry", "tasks", "networks")
TESTS = [
    *(f"tests/{folder}" for folder in FOLDERS),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("test_*.py")),
    *("tests/checkpoints/test_original_parity.py", "tests/checkpoints/test_variants.py"),
    *("-m", "not slow"),
]
PYTEST = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=no"]
# Seconds of tests, as measured under coverage, that a mutant is given at most.
TEST_SECONDS = 60.0
# Tests at most: more that run the same line seldom find more.
MOST_TESTS = 150


class Coverage(NamedTuple):
    """Seconds of each test, the tests that run each line of each file, and modules of others' that they import."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    modules: list[str]


class _Recorder:
    """A pytest plugin: tells coverage which test runs, and takes its time."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)


def _is_others(module: Any) -> bool:
    """Tell whether a module comes from a file outside the project, its environment left aside."""
    # (A module may have put None, or anything else, in place of another.)
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    return not Path(file).is_relative_to(ROOT) or Path(file).is_relative_to(sys.prefix)


def _measure(target: Path) -> None:
    """In a child: run the tests once under coverage, and write what was found."""
    import coverage
    import pytest

    tracer = coverage.Coverage(data_file=None, include=[f"{PACKAGE}/*"], config_file=False)
    recorder = _Recorder(tracer)
    tracer.start()
    status = pytest.main([option for option in PYTEST if option != "-x"] + TESTS, plugins=[recorder])
    tracer.stop()
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit("the tests cannot be run")
    data = tracer.get_data()
    lines = {
        Path(file).relative_to(ROOT).as_posix(): {
            line: [test for test in tests if test and test not in recorder.failed]
            for line, tests in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    modules = [name for name, module in sys.modules.items() if _is_others(module)]
    target.write_text(json.dumps([recorder.seconds, lines, modules]))
    if recorder.failed:
        print(f"failing without a mutation, left aside: {', '.join(recorder.failed)}")


def measured_coverage(cache: Path) -> Coverage:
    """What the tests run: of an earlier call, if `cache` is there."""
    if not cache.exists():
        print("running the tests once, to see which lines each of them runs", flush=True)
        process = multiprocessing.get_context("fork").Process(target=_measure, args=(cache,))
        process.start()
        process.join()
        if process.exitcode != 0:
            sys.exit(1)
    seconds, lines, modules = json.loads(cache.read_text())
    return Coverage(seconds, {f: {int(n): t for n, t in of.items()} for f, of in lines.items()}, modules)


def tests_for(mutant: Mutant, coverage: Coverage) -> list[str]:
    """The tests that run the statement, or for what runs at import those that run the file.

    First those that by their name are for this file, then those for its folder, the quickest first.
    """
    of_lines = coverage.lines.get(mutant.file, {})
    first, last = mutant.statement
    found = {test for line in range(first, last + 1) for test in of_lines.get(line, ())}
    found = found or {test for tests in of_lines.values() for test in tests}
    path = Path(mutant.file)

    def order(test: str) -> tuple[bool, bool, float]:
        return f"test_{path.stem}." not in test, f"/{path.parent.name}/" not in test, coverage.seconds[test]

    chosen, seconds = [], 0.0
    for test in sorted(found, key=order):
        seconds += coverage.seconds[test]
        if seconds > TEST_SECONDS or len(chosen) == MOST_TESTS:
            break
        chosen.append(test)
    return chosen
