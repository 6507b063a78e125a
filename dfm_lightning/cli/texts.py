"""Keep names that look like numbers as typed, in options for lists of texts.

YAML takes `3e68931874661724`, a scene of RealEstate10k, for an infinite number, `007` for 7, and `null` and `true`
literally. The parser only learns afterwards that an option expects texts. Therefore values in lists whose
original spelling could not be recovered stay texts, which numeric types accept as well; and lists of texts restore
the spelling of the others.
"""

import collections.abc
import json
from typing import Any, Union, get_args, get_origin

import yaml
from jsonargparse import get_loader, set_loader
from jsonargparse.typing import register_type

_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_read = get_loader("yaml")


class Text(str):
    """An element of a list of texts, whatever YAML takes it for."""


def keep_texts() -> None:
    """Make all parsers read lists as described above."""
    set_loader("yaml", read_yaml, (yaml.YAMLError,))
    register_type(Text, serializer=str, deserializer=_spelt, type_check=lambda value, _: isinstance(value, str))


def read_yaml(text: str) -> Any:
    """Read YAML; in lists, values spelt unlike JSON stay text.

    Raises:
        yaml.YAMLError: it is no YAML, is nested too deeply or in itself, or a mapping holds a name twice (of which
            YAML would silently take the last).
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_nodes(root, set(), set())
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    lists = [node for node in _nodes(root) if isinstance(node, yaml.SequenceNode)]
    hidden = [element for node in lists for element in node.value if _spelling_is_lost(element)]
    for element in hidden:
        element.style, element.tag = "'", "tag:yaml.org,2002:str"
    return _read(yaml.serialize(root, Dumper=yaml.SafeDumper, width=float("inf")) if hidden else text)


def _check_nodes(node: yaml.Node | None, above: set[int], known: set[int]) -> None:
    """Check a node and all nodes below it. `above` are those that hold it, `known` those already checked."""
    if not isinstance(node, yaml.CollectionNode) or id(node) in known:
        return
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an anchor is used within itself", problem_mark=node.start_mark)
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        names: set[tuple[str, str]] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and (name.tag, name.value) in names:
                raise yaml.MarkedYAMLError(
                    problem=f"there are two settings '{name.value}'", problem_mark=name.start_mark
                )
            names |= {(name.tag, name.value)} if isinstance(name, yaml.ScalarNode) else set()
        parts = [part for pair in node.value for part in pair]
    for part in parts:
        _check_nodes(part, above | {id(node)}, known)
    known.add(id(node))


def _nodes(root: yaml.Node | None) -> list[yaml.Node]:
    """List a node and all nodes below it, each once."""
    found: dict[int, yaml.Node] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in found:
            continue
        found[id(node)] = node
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
    return list(found.values())


def _spelling_is_lost(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or node.style in ("'", '"', "|", ">"):
        return False
    value = _read(node.value)
    return not isinstance(value, str) and json.dumps(value) != node.value


def _spelt(value: Any) -> str:
    """Return the original spelling of a value."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(f"expected str, got {value!r}")


def with_texts(hint: Any) -> Any:
    """Return a type in which texts in lists keep their spelling."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in _LISTS:
        return origin[tuple(Text if part is str else with_texts(part) for part in parts)]
    if (parts and type(None) in parts) or origin is Union:
        return Union[tuple(with_texts(part) for part in parts)]  # noqa: UP007 (made at run time)
    return hint
