"""Mutation testing of the core: small faults, put in one at a time, that the tests should notice.

The mutants are mutmut's (operators, numbers, constants, arguments left out, branches forced, ...), and entries
left out of dict literals. mutmut's own runner copies the project and wraps functions, which neither the import
hook that checks array shapes nor the command line's reading of signatures survives; so each mutant runs here in
a child process, forked after PyTorch and the rest are imported, that finds the changed source where Python looks
for the module. A child runs the quick tests that execute the changed statement, the fastest first, until one
fails. Which tests execute which lines is measured first, by one run under coverage.

    OMP_NUM_THREADS=1 python benchmarks/mutation.py [--sample 215] [--only geometry] [--report survivors.md]

The sample is fixed: of each file the mutants with the smallest hash of what they change, at most one a line. So
it stays nearly the same while the code changes elsewhere. See docs/notes/mutation_testing.md.
"""

import argparse
import contextlib
import hashlib
import importlib
import importlib.machinery
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dfm_lightning"
CORE = (
    *("module.py", "first_step.py", "scene_scores.py", "record.py", "ranges.py", "weights.py", "randomness.py"),
    *("types.py", "interfaces.py", "optimizers.py", "diffusion/*.py", "diffusion/samplers/*.py"),
    *("forward_models/*.py", "denoisers/*.py", "losses/*.py", "metrics/*.py", "geometry/*.py", "tasks/*.py"),
    "networks/*.py",
)
# The quick tests of the core's own folders: those of the command line and the like run it too, but take long.
FOLDERS = ("diffusion", "forward_models", "denoisers", "losses", "metrics", "geometry", "tasks", "networks")
TESTS = [
    *(f"tests/{folder}" for folder in FOLDERS),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("test_*.py")),
    *("tests/checkpoints/test_original_parity.py", "tests/checkpoints/test_variants.py"),
    *("-m", "not slow"),
]
PYTEST = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=no"]
SEED = "dfm-lightning"
# Seconds of tests, as measured under coverage, that a mutant is given at most, and what it may take itself.
TEST_SECONDS = 60.0
TIMEOUT = 200.0
# Tests at most: more that run the same line seldom find more.
MOST_TESTS = 150
OURS = ("dfm_lightning", "datamodules", "tests", "examples", "benchmarks", "conftest", "test_", "__m")

Outcome = str
KILLED, SURVIVED, UNTESTED = "killed", "survived", "no test runs it"


class Mutant(NamedTuple):
    """A change of a file: on which line, what stood there and stands now, and the whole source with it."""

    file: str
    line: int
    # First and last line of the statement around it.
    statement: tuple[int, int]
    before: str
    after: str
    source: str


class Place(NamedTuple):
    """A node of a file's syntax tree that an operator changes."""

    node: cst.CSTNode
    changed: cst.CSTNode
    operator: str
    line: int
    statement: tuple[int, int]


class Coverage(NamedTuple):
    """Seconds of each test, the tests that run each line of each file, and modules of others' that they import."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    modules: list[str]


# --- mutants -------------------------------------------------------------------------------------------------


def drop_entry(node: cst.Dict) -> Iterable[cst.Dict]:
    """Leave out each entry of a dict literal."""
    for index, element in enumerate(node.elements):
        if isinstance(element, cst.DictElement):
            yield node.with_changes(elements=[*node.elements[:index], *node.elements[index + 1 :]])


OPERATORS: list[tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]] = [
    *mutation_operators,
    (cst.Dict, drop_entry),
]


def _is_check(node: cst.CSTNode) -> bool:
    """Whether a node is a call of `len` or `isinstance`, which fails when it lacks an argument."""
    return (
        isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in ("len", "isinstance")
    )


class _Collector(cst.CSTVisitor):
    """All places of a module that an operator changes: but annotations, decorators, docstrings, and the texts of
    errors, which say nothing about what is computed."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._statements: list[tuple[int, int]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.Annotation, cst.Decorator, cst.Raise, cst.Import, cst.ImportFrom, cst.Assert)):
            return False
        if isinstance(node, cst.Expr) and isinstance(node.value, (cst.SimpleString, cst.ConcatenatedString)):
            return False
        if isinstance(node, STATEMENTS):
            self._statements.append(self._span(node))
        if self._statements:
            line = self.get_metadata(PositionProvider, node).start.line if isinstance(node, PLACED) else 0
            for kind, operator in OPERATORS:
                if isinstance(node, kind) and not _is_check(node):
                    name = operator.__name__
                    self.places += [Place(node, c, name, line, self._statements[-1]) for c in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, STATEMENTS):
            self._statements.pop()

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        """The lines of a statement; of one with a block, those of its head."""
        place = self.get_metadata(PositionProvider, node)
        body = getattr(node, "body", None)
        if not isinstance(body, cst.IndentedBlock):
            return place.start.line, place.end.line
        return place.start.line, max(place.start.line, self.get_metadata(PositionProvider, body).start.line - 1)


STATEMENTS = (cst.SimpleStatementLine, cst.If, cst.For, cst.While, cst.With, cst.FunctionDef)
# Nodes that have a place in the file of their own.
PLACED = (cst.BaseExpression, cst.BaseSmallStatement, cst.BaseCompoundStatement)


def sampled(path: Path, size: int) -> list[Mutant]:
    """Mutants of a file: on each line one, and of the lines those whose changes have the smallest hashes."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    lines = text.splitlines()
    wrapper = MetadataWrapper(cst.parse_module(text))
    collector = _Collector()
    wrapper.visit(collector)
    module = wrapper.module

    def rank(line: int, *words: str) -> str:
        return hashlib.sha256("\0".join((SEED, name, lines[line - 1], *words)).encode()).hexdigest()

    by_line: dict[int, list[Place]] = {}
    for place in collector.places:
        by_line.setdefault(place.line or place.statement[0], []).append(place)
    found: list[Mutant] = []
    for line in sorted(by_line, key=rank):
        # First the operator: else most mutants were of arguments left out, of which there are the most.
        for place in sorted(
            by_line[line],
            key=lambda p: (rank(p.line, p.operator), rank(p.line, p.operator, module.code_for_node(p.changed))),
        ):
            if len(found) == size:
                return found
            source = cast(cst.Module, module.deep_replace(place.node, place.changed)).code
            try:
                compile(source, name, "exec")
            except SyntaxError:  # a positional argument after one by name, say
                continue
            before, after = module.code_for_node(place.node), module.code_for_node(place.changed)
            found.append(Mutant(name, line, place.statement, before, after, source))
            break
    return found


def sample(files: list[Path], size: int) -> list[Mutant]:
    """A fixed sample: of each file a share as large as its own of all lines of code, at least two mutants."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    total = sum(lengths.values())
    return [mutant for path in files for mutant in sampled(path, max(2, round(size * lengths[path] / total)))]


# --- which tests run what ------------------------------------------------------------------------------------


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
    # A module may put None in place of another, or a name that cannot be imported.
    modules = [name for name, module in sys.modules.items() if module is not None and not name.startswith(OURS)]
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


# --- the run -------------------------------------------------------------------------------------------------


def put_in_place(file: Path, source: str) -> None:
    """Let Python find another source for a file, and no bytecode of the one that is there."""
    loader = importlib.machinery.SourceFileLoader
    path_stats, get_data = loader.path_stats, loader.get_data

    def changed_stats(self: Any, path: str) -> Any:
        if Path(path) == file:
            raise OSError("changed in memory")
        return path_stats(self, path)

    def changed_data(self: Any, path: str) -> bytes:
        return source.encode() if Path(path) == file else get_data(self, path)

    # (A child process of its own, which tests one mutant and ends.)
    loader.path_stats, loader.get_data = changed_stats, changed_data  # type: ignore[method-assign]


def _try(mutant: Mutant, tests: list[str]) -> None:
    """In a child: exit with pytest's status."""
    import pytest

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.setpgrp()
    put_in_place(ROOT / mutant.file, mutant.source)
    status = pytest.main([*PYTEST, *tests])
    os._exit(int(status))


class _Child(NamedTuple):
    process: Any
    mutant: Mutant
    until: float


def run(mutants: list[Mutant], coverage: Coverage, processes: int) -> Iterator[tuple[Mutant, Outcome]]:
    """Each mutant and what became of it, as they end."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(mutants), list[_Child]()
    while waiting or running:
        while waiting and len(running) < processes:
            mutant = waiting.pop(0)
            tests = tests_for(mutant, coverage)
            if not tests:
                yield mutant, UNTESTED
                continue
            process = context.Process(target=_try, args=(mutant, tests))
            process.start()
            running.append(_Child(process, mutant, time.monotonic() + TIMEOUT))
        time.sleep(0.05)
        for child in list(running):
            if child.process.is_alive() and time.monotonic() < child.until:
                continue
            running.remove(child)
            timed_out = child.process.is_alive()
            if timed_out:
                os.killpg(child.process.pid, 9)
            child.process.join()
            yield child.mutant, SURVIVED if child.process.exitcode == 0 and not timed_out else KILLED


def preload(modules: Iterable[str]) -> None:
    """Import what the tests import of others, once for all children."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def table(results: list[tuple[Mutant, Outcome]]) -> list[str]:
    """The counts by folder or file of the core, as a table in Markdown."""
    parts = sorted({_part(mutant) for mutant, _ in results})
    counts = Counter((_part(mutant), outcome) for mutant, outcome in results)
    lines = ["| part | mutants | killed | % |", "|---|---|---|---|"]
    for part in [*parts, "all"]:
        of_part = {o: sum(n for (p, o2), n in counts.items() if o2 == o and part in (p, "all"))
                   for o in (KILLED, SURVIVED, UNTESTED)}  # fmt: skip
        total = sum(of_part.values())
        lines.append(f"| {part} | {total} | {of_part[KILLED]} | {100 * of_part[KILLED] / total:.0f} |")
    return lines


def _part(mutant: Mutant) -> str:
    return "/".join(mutant.file.split("/")[1:2])


def survivors(results: list[tuple[Mutant, Outcome]]) -> list[str]:
    """The mutants that no test noticed, one a line."""
    lines = []
    for mutant, outcome in sorted(results):
        if outcome != KILLED:
            before, after = (" ".join(text.split()) for text in (mutant.before, mutant.after))
            lines.append(f"{mutant.file}:{mutant.line}: {before}  →  {after}  ({outcome})")
    return lines


def main() -> None:
    """Run the sample, and print what survived and the shares that did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=215, help="mutants, about (default: %(default)s)")
    parser.add_argument("--only", default="", help="only files whose path holds this")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="children at once")
    parser.add_argument("--coverage", type=Path, default=None, help="file to keep the coverage in for later calls")
    parser.add_argument("--report", type=Path, default=None, help="file to write the survivors and the table to")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    files = [path for pattern in CORE for path in sorted(PACKAGE.glob(pattern)) if path.name != "__init__.py"]
    mutants = [mutant for mutant in sample(files, options.sample) if options.only in mutant.file]
    cache = options.coverage or Path(tempfile.gettempdir()) / f"mutation-coverage-{os.getpid()}.json"
    coverage = measured_coverage(cache)
    preload(coverage.modules)
    results = []
    for mutant, outcome in run(mutants, coverage, options.processes):
        results.append((mutant, outcome))
        print(f"\r{len(results)} of {len(mutants)}", end="", file=sys.stderr, flush=True)
        if outcome != KILLED:
            print("\n".join(["", *survivors([(mutant, outcome)])]), flush=True)
    report = [*table(results), "", *survivors(results)]
    print("\n".join(["", *report]))
    if options.report is not None:
        options.report.write_text("\n".join([*report, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
