"""Read what `dfm test` has written."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfm_lightning.callbacks.report_page import REPORT_FILES
from dfm_lightning.report.evaluations import with_evaluations
from dfm_lightning.report.runs import Run
from dfm_lightning.report.stored_files import (
    damaged,
    part,
    read_json,
    scores_by_role,
    scores_by_scene,
    texts,
)
from dfm_lightning.wording import counted

REPORT = REPORT_FILES[0]


def is_test_folder(path: Path) -> bool:
    """Tell whether a folder holds a test's report, or scenes that an interrupted test has measured."""
    return (path / REPORT).is_file() or any((path / "scenes").glob("*.json"))


def read_test_folder(path: Path, name: str) -> Run:
    """Read the scores of a test, finished or not. `UserError` names a damaged file."""
    stored = {file: read_json(file) for file in sorted((path / "scenes").glob("*.json"))}
    measured = {_key(file, scene): (file, scene) for file, scene in stored.items()}
    sketches = {
        key: {item: str(text) for item, text in scene["data"].items()}
        for key, (_, scene) in measured.items()
        if isinstance(scene.get("data"), dict)
    }
    if not (path / REPORT).is_file():
        return replace(_unfinished(path, name, measured), sketches=sketches)
    report = read_json(path / REPORT)
    scenes = scores_by_scene(path / REPORT, part(path / REPORT, report, "scenes"))
    settings = with_evaluations(part(path / REPORT, report, "settings"))
    further = len(measured.keys() - scenes.keys())
    notices = (
        [f"{counted(further, 'further scene')} measured, but not in its report: test again"] if further else []
    )
    if not all("version" in scene for scene in stored.values()) or not stored:
        notices.append("of version 0.1.0, which recorded fewer settings")
    return Run(
        name,
        path,
        "test",
        settings,
        tuple(notices),
        scenes=scenes,
        sketches=sketches,
        # Version 0.1.0 called them "together".
        joint=scores_by_role(path / REPORT, report.get("joint", report.get("together")) or {}),
        missing=texts(path / REPORT, report.get("missing")),
        notes=texts(path / REPORT, report.get("notes")),
        item=item if isinstance(item := report.get("item"), str) else None,
    )


def _key(path: Path, scene: dict[str, Any]) -> str:
    key = scene.get("key")
    if not isinstance(key, str):
        raise damaged(path, '"key" is missing')
    return key


def _unfinished(path: Path, name: str, measured: dict[str, tuple[Path, dict[str, Any]]]) -> Run:
    """Return the scenes that an interrupted test has measured; with several settings, the most frequent."""
    used = {
        key: {**part(file, scene, "made_with"), **scene.get("measured_with", {})}
        for key, (file, scene) in measured.items()
    }
    spelt = {key: json.dumps(settings, sort_keys=True) for key, settings in used.items()}
    chosen = Counter(spelt.values()).most_common(1)[0][0]
    keys = sorted(key for key, text in spelt.items() if text == chosen)
    notices = [f"unfinished: {counted(len(keys), 'scene')} measured, {REPORT} not written yet"]
    if len(keys) < len(spelt):
        notices.append(f"left out: {counted(len(spelt) - len(keys), 'scene')} measured with other settings")
    scenes = {key: scores_by_role(measured[key][0], measured[key][1].get("scores")) for key in keys}
    settings = {**used[keys[0]], "scenes": len(keys)}
    return Run(name, path, "test", with_evaluations(settings), tuple(notices), scenes=scenes)
