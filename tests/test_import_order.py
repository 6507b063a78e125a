"""Imports point one way (ARCHITECTURE.md, "Layers")."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up. Modules on the same level do not import each other.
LEVELS: list[set[str]] = [
    {"errors", "types", "signals", "randomness", "ranges", "wording"},
    {"files", "migrations", "record"},
    {"interfaces", "first_step"},
    {"geometry", "held_process"},
    {"networks"},
    {"forward_models"},
    {"denoisers", "diffusion", "losses", "metrics", "observation_losses", "optimizers"}
    | {"scene_scores", "weights", "weights_file", "baking"},
    {"sampling", "exports"},
    {"validation"},
    {"module"},
    {"tasks"},
    {"callbacks", "checkpoints", "training"},
    {"report", "viewer"},
    {"tuning"},
    {"cli"},
    {"__main__", "api"},
]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
DATAMODULES_MAY_IMPORT = {"errors", "types", "randomness", "ranges", "wording", "files", "geometry"}


def imported_modules(source: str) -> list[str]:
    """Dotted names of the project's modules that a source text imports, wherever in the text."""
    names = []
    tree = ast.parse(source)
    # What is imported for type checkers alone runs no code.
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and is_for_types(node))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            assert all(alias.name != "*" for alias in node.names), "star import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in ("dfm_lightning", "datamodules")]


def is_for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def violations(package: str, layer: str, source: str) -> list[str]:
    """Imports that the layer of a file forbids."""
    wrong = []
    for name in imported_modules(source):
        parts = name.split(".")
        if parts[0] == "datamodules":
            if package == "dfm_lightning" and layer != "cli":
                wrong.append(name)
            continue
        if len(parts) == 1 or parts[1] == "__version__":  # the package itself, which imports nothing
            continue
        target = parts[1]
        if package == "datamodules":
            if target not in DATAMODULES_MAY_IMPORT:
                wrong.append(name)
        elif target != layer and LEVEL_OF[target] >= LEVEL_OF[layer]:
            wrong.append(name)
    return wrong


def project_files() -> list[Path]:
    return sorted(path for package in ("dfm_lightning", "datamodules") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", project_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_imports_only_from_layers_below(path: Path) -> None:
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    if rest == ["__init__"]:
        assert not imported_modules(path.read_text()), "the package's own __init__ looks names up when asked"
        return
    assert violations(package, rest[0], path.read_text()) == []


def test_a_wrong_import_is_found() -> None:
    assert violations("dfm_lightning", "networks", "from dfm_lightning.tasks import x") == [
        "dfm_lightning.tasks.x"
    ]
    assert violations("datamodules", "co3d", "import dfm_lightning.module") == ["dfm_lightning.module"]
    assert violations("dfm_lightning", "module", "from dfm_lightning.types import Batch") == []


def ancestors(name: str) -> set[str]:
    """The packages that hold a module: importing it imports them first."""
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """For each module, by dotted name, those whose code has to be run before its own."""
    graph = {}
    for name, source in sources.items():
        needed: set[str] = set()
        for imported in imported_modules(source):
            # `from module import name` imports the module, and a module of that name if there is one.
            found = {part for part in {imported, *ancestors(imported)} if part in sources}
            needed |= found | {part for each in found for part in ancestors(each)}
        # The packages that hold a module are being imported already when its own code runs.
        graph[name] = needed - ancestors(name) - {name}
    return graph


def modules_by_name() -> dict[str, str]:
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in project_files()}
    return {name.removesuffix(".__init__"): path.read_text() for name, path in paths.items()}


def test_every_module_can_be_imported_first() -> None:
    TopologicalSorter(import_graph(modules_by_name())).prepare()


def test_a_circle_through_a_package_is_found() -> None:
    package = {
        "datamodules": "",
        "datamodules.part": "from datamodules.part.reader import read",
        "datamodules.part.reader": "from datamodules.paths import follow",
        "datamodules.part.format": "",
        "datamodules.paths": "from datamodules.part.format import parse",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(package)).prepare()
    package["datamodules.paths"] = ""
    TopologicalSorter(import_graph(package)).prepare()
