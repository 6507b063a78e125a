"""Mutants: small faults in a file, each a changed source (see mutation.py)."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[1]
SEED = "dfm-lightning"


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
