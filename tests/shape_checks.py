"""Check the array shapes in signatures while the tests run.

jaxtyping's own import hook wraps every function, and functions within functions whenever they are made. That
doubles the time of the tests, since most calls are of functions without arrays. This one wraps functions whose
signatures hold shapes.
"""

import ast
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source
from types import ModuleType
from typing import Any, get_args
from unittest.mock import patch

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

# Changes with what is done to a module: compiled ones are kept beside their sources.
VERSION = "shapes2"


def holds_shapes(hint: Any) -> bool:
    """Tell whether a type hint has the shape of an array in it, at any depth. A hint that is a string may."""
    if isinstance(hint, str):
        return True
    if isinstance(hint, list | tuple):
        return any(map(holds_shapes, hint))
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(holds_shapes, get_args(hint)))


def checked(function: Callable) -> Callable:
    """Check a function's arguments and result at each call, if its signature holds shapes."""
    if any(map(holds_shapes, function.__annotations__.values())):
        return jaxtyped(function, typechecker=beartype)
    return function


class _Decorating(ast.NodeTransformer):
    """Put `checked` nearest to each function, so that properties and class methods are made of checked ones.

    Functions within functions are left alone: they would be wrapped anew whenever the outer one is called.
    """

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        first = next((n for n, part in enumerate(node.body) if not self._stays_first(part)), 0)
        node.body.insert(first, ast.Import([ast.alias(__name__)]))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        decorator = ast.parse(f"{__name__}.checked", mode="eval").body
        node.decorator_list.append(ast.copy_location(decorator, node))
        return node

    @staticmethod
    def _stays_first(part: ast.stmt) -> bool:
        future = isinstance(part, ast.ImportFrom) and part.module == "__future__"
        return future or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))


class _Loader(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:  # type: ignore[override]  # as importlib calls it
        tree = ast.fix_missing_locations(_Decorating().visit(ast.parse(data, path)))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        cached = partial(cache_from_source, optimization=VERSION)
        with patch("importlib._bootstrap_external.cache_from_source", lambda path, *_, **__: cached(path)):
            super().exec_module(module)


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def check_shapes_of(*packages: str) -> None:
    """Check all modules of these packages that are imported from now on."""
    sys.meta_path.insert(0, _Finder(packages))
