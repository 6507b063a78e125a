"""Read files of a run's folder as data; errors name a damaged file."""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from dfm_lightning.callbacks.report_tables import SceneScores, Scores
from dfm_lightning.errors import UserError


def damaged(path: Path, reason: object) -> UserError:
    """Build the error about a damaged file."""
    what = str(reason).strip().splitlines() or [type(reason).__name__]
    return UserError(f"{path} is damaged ({what[0]}): restore it, or repeat the run that wrote it")


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file. `UserError` if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(value, dict):
        raise damaged(path, f"an object is expected, it holds a {type(value).__name__}")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file. `UserError` if there is none."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(value, dict):
        raise damaged(path, f"settings are expected, it holds a {type(value).__name__}")
    return value


def part(path: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object within that of a file. `UserError` if it is missing, or something else."""
    value = content.get(name)
    if not isinstance(value, dict):
        raise damaged(path, f'"{name}" is missing' if value is None else f'"{name}" is not an object')
    return value


def scores_by_role(path: Path, value: Any) -> dict[str, Scores]:
    """Return finite scores by role and name. `UserError` if they are something else."""
    if not isinstance(value, dict) or not all(isinstance(scores, dict) for scores in value.values()):
        raise damaged(path, "scores by role and name are expected")
    found: dict[str, Scores] = {}
    for role, scores in value.items():
        for name, number in scores.items():
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise damaged(path, f'"{name}" of "{role}" is not a number')
            if math.isfinite(number):
                found.setdefault(role, {})[name] = float(number)
    return found


def scores_by_scene(path: Path, value: dict[str, Any]) -> SceneScores:
    """Return `scores_by_role` by scene."""
    return {key: scores_by_role(path, roles) for key, roles in value.items()}


def texts(path: Path, value: Any) -> dict[str, str]:
    """Return texts by name; nothing if none were stored. `UserError` if they are something else."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise damaged(path, "texts by name are expected")
    return value
