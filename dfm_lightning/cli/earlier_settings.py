"""Translate options and config files of earlier versions to their current meaning."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from dfm_lightning.cli.texts import read_yaml
from dfm_lightning.errors import UserError
from dfm_lightning.migrations import migrate_with_notice, migrated_class, migrated_option, say_once

_FILES = (".yaml", ".yml", ".json")
# The content of a file given for one of these settings, rather than all settings.
_PARTS = ("model", "data")


def classes_of(arguments: list[str]) -> dict[str, str]:
    """Return the classes of `model` and `data` that a command's configs and options name, the last of each."""
    found: dict[str, str] = {}
    for name, value in _options(arguments):
        if name in ("c", "config") and value is not None:
            loaded = _loaded(value)
            found |= {part: loaded[part]["class_path"] for part in _PARTS if _names_class(loaded.get(part))}
        elif name in _PARTS and value is not None:
            content = _loaded(value)
            found[name] = content["class_path"] if _names_class(content) else value
    return {part: migrated_class(path) for part, path in found.items()}


def with_current_options(arguments: list[str], classes: Mapping[str, str]) -> list[str]:
    """Rename settings and classes in the arguments to their current names; report it in one line on stderr."""
    current, renamed = [], []
    part = ""
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if argument.startswith("--"):
            part = name[2:]
            now = f"--{migrated_option(part, classes)}"
            if now != name:
                renamed.append(f"{name} → {now}")
            name = now
            current.append(f"{name}{separator}{_current_value(part, value, renamed)}" if separator else name)
        else:
            current.append(_current_value(part, argument, renamed))
            part = ""
    if renamed:
        say_once(f"Options of an earlier version are read as: {', '.join(renamed)}")
    return current


def with_current_settings(content: str, origin: str, classes: Mapping[str, str]) -> str:
    """Upgrade the text of a config file to the current version; return it unchanged if nothing is outdated.

    Raises:
        UserError: it holds no settings.
    """
    try:
        loaded = read_yaml(content)
    except yaml.YAMLError:
        return content  # the parser reports the fault
    if not isinstance(loaded, dict):
        found = "nothing" if loaded is None else f"a value of type {type(loaded).__name__}"
        expected = "settings by name, such as trainer: {max_steps: 1000}"
        raise UserError(f"{origin} should hold {expected}; it holds {found}")
    migrated = migrate_with_notice(loaded, origin, classes)
    return content if migrated == loaded else _as_yaml(migrated)


def _current_value(option: str, value: str, renamed: list[str]) -> str:
    """Upgrade a class path, or the file of a model or data set."""
    path = migrated_class(value)
    if path != value:
        renamed.append(f"{value} → {path}")
    content = _loaded(value) if option in _PARTS else {}
    if not content:
        return path
    migrated = migrate_with_notice({option: content}, value)[option]
    return value if migrated == content else _as_yaml(migrated)


def _options(arguments: list[str]) -> Iterator[tuple[str, str | None]]:
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument.startswith("-"):
            name, separator, value = argument.lstrip("-").partition("=")
            yield name, value if separator else following


def _loaded(value: str) -> dict[str, Any]:
    """Read the settings in a file; none if it is not such a file."""
    path = Path(value)
    if path.suffix not in _FILES or not path.is_file():
        return {}
    with suppress(yaml.YAMLError, UnicodeDecodeError):
        loaded = read_yaml(path.read_text("utf-8"))
        return loaded if isinstance(loaded, dict) else {}
    return {}


def _names_class(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("class_path"), str)


class _Quoting(yaml.SafeDumper):
    """Quote all texts, so that no YAML reader takes one for a number."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def _as_yaml(settings: Any) -> str:
    return yaml.dump(settings, Dumper=_Quoting, sort_keys=False, width=float("inf"), default_flow_style=True)
