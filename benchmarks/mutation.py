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
import importlib
import importlib.machinery
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mutants import ROOT, Mutant, sample
from mutation_coverage import PACKAGE, PYTEST, Coverage, measured_coverage, tests_for

CORE = (
    *("module.py", "first_step.py", "scene_scores.py", "record.py", "ranges.py", "weights.py", "randomness.py"),
    *("types.py", "interfaces.py", "optimizers.py", "diffusion/*.py", "diffusion/samplers/*.py"),
    *("forward_models/*.py", "denoisers/*.py", "losses/*.py", "metrics/*.py", "geometry/*.py", "tasks/*.py"),
    "networks/*.py",
)
# Seconds that a mutant may take.
TIMEOUT = 200.0

Outcome = str
KILLED, SURVIVED, UNTESTED = "killed", "survived", "no test runs it"


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
    loader.path_stats, loader.get_data = changed_stats, changed_data


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
    """Import what the tests import of others, once for all children.

    Exits if that imports the core too: children would then test it as it is, and no mutant would be noticed.
    """
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if PACKAGE.name in sys.modules:
        sys.exit(f"{PACKAGE.name} was imported before its mutants: no test could notice them")


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
