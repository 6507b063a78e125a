"""Upgrade a config to the current version: renamed classes and settings first, then step by step.

A config without a version counts as the oldest. Handwritten configs often have none, and overlays hold a few
settings only: so a step changes what it knows to be old and leaves everything else alone.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from dfm_lightning.errors import UserError
from dfm_lightning.migrations.conventions_once import conventions_once
from dfm_lightning.migrations.levels_by_number import levels_by_number
from dfm_lightning.migrations.moved import MOVED_CLASSES, MOVED_SETTINGS, MovedSetting

VERSION_KEY = "config_version"
# The step at index i (from 0) upgrades a config of version i to the next: it changes the config and returns its
# changes, each as "old → new".
STEPS: list[Callable[[dict[str, Any]], list[str]]] = [conventions_once, levels_by_number]
CONFIG_VERSION = len(STEPS)

_said: set[str] = set()


class Migrated(NamedTuple):
    """A config of the current version, and the changes that led to it, each as "old → new"."""

    config: dict[str, Any]
    changes: list[str]


def migrate(config: dict[str, Any], origin: str, classes: Mapping[str, str] | None = None) -> Migrated:
    """Upgrade a copy of a config.

    Args:
        config: settings as primitives, as in a YAML file; all of them or a few.
        origin: where they come from, for messages.
        classes: class paths of `model` and `data`, which the config itself may not name.

    Raises:
        UserError: a newer version of the program wrote it, its version is not a whole number, or a setting appears
            under both its old and its new name.
    """
    version = config.get(VERSION_KEY, 0)
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise UserError(f"{origin}: {VERSION_KEY} must be a whole number from 0 on, got {version!r}")
    if version > CONFIG_VERSION:
        raise UserError(
            f"{origin} was written by a newer version of this program: its {VERSION_KEY} is {version}, and this "
            f"one knows {CONFIG_VERSION} at most. Update dfm-lightning"
        )
    config = copy.deepcopy(config)
    changes = list(_with_new_classes(config))
    changes += _with_new_settings(config, origin, classes or {})
    for step in STEPS[version:]:
        changes += step(config)
    if VERSION_KEY in config:
        config[VERSION_KEY] = CONFIG_VERSION
    return Migrated(config, list(dict.fromkeys(changes)))


def migrate_with_notice(
    config: dict[str, Any], origin: str, classes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Upgrade a config as `migrate` does, and print one line about the changes, once for each origin."""
    migrated, changes = migrate(config, origin, classes)
    if changes:
        say_once(f"{origin} is of an earlier version, and is read as if changed: {', '.join(changes)}")
    return migrated


def migrated_option(name: str, classes: Mapping[str, str] | None = None) -> str:
    """Return the current name of a setting given as on the command line; unchanged if it was not renamed."""
    for moved in MOVED_SETTINGS:
        for old in (moved.old, short(moved.old)):
            within = name == old or name.startswith(f"{old}.")
            if within and _belongs(moved, (classes or {}).get(name.split(".")[0])):
                return short(moved.new) + name[len(old) :]
    return name


def migrated_class(path: str) -> str:
    """Return the current place of a class given its path; unchanged if it was not moved."""
    return MOVED_CLASSES.get(path, path)


def short(place: str) -> str:
    """Write a setting's place as on the command line and in messages."""
    return place.replace(".init_args", "")


def say_once(notice: str) -> None:
    """Print a line to stderr, in one of the processes, unless it was printed before."""
    if notice not in _said:
        _said.add(notice)
        _say(notice)


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _with_new_classes(tree: Any) -> Iterator[str]:
    if isinstance(tree, list):
        for item in tree:
            yield from _with_new_classes(item)
    if not isinstance(tree, dict):
        return
    path = tree.get("class_path")
    if isinstance(path, str) and path in MOVED_CLASSES:
        tree["class_path"] = MOVED_CLASSES[path]
        yield f"{path} → {MOVED_CLASSES[path]}"
    for value in tree.values():
        yield from _with_new_classes(value)


def _with_new_settings(config: dict[str, Any], origin: str, classes: Mapping[str, str]) -> Iterator[str]:
    for moved in MOVED_SETTINGS:
        *way, name = moved.old.split(".")
        holder = _follow(config, way)
        named = _follow(config, way[:1]) or {}
        if (
            holder is None
            or name not in holder
            or not _belongs(moved, named.get("class_path", classes.get(way[0])))
        ):
            continue
        if moved.unless and _names_class(config, moved.unless.split(".")):
            del holder[name]
            yield f"{short(moved.old)} → nothing, since there is {short(moved.unless)}"
            continue
        *way, new_name = moved.new.split(".")
        target: Any = config
        for part in way:
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
        if new_name in target:
            raise UserError(
                f"{origin} has {short(moved.old)} and {short(moved.new)}, which are the same: leave out the former"
            )
        target[new_name] = holder.pop(name)
        yield f"{short(moved.old)} → {short(moved.new)}"


def _belongs(moved: MovedSetting, class_path: str | None) -> bool:
    """Tell whether a setting belongs to a class, or the class is unknown."""
    return class_path is None or class_path.rpartition(".")[2] == moved.owner


def _names_class(config: dict[str, Any], way: list[str]) -> bool:
    """Tell whether a setting names a class, alone or with its arguments."""
    given = (_follow(config, way[:-1]) or {}).get(way[-1])
    return isinstance(given, str) or (isinstance(given, dict) and "class_path" in given)


def _follow(tree: Any, way: list[str]) -> dict[str, Any] | None:
    for part in way:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else None
