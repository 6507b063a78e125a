"""Read what `dfm predict` has written."""

from pathlib import Path
from typing import Any

from dfm_lightning.callbacks.prediction_writer import MANIFEST
from dfm_lightning.files import PARTIAL
from dfm_lightning.report.evaluations import with_evaluations
from dfm_lightning.report.runs import Run
from dfm_lightning.report.stored_files import damaged, part, read_json
from dfm_lightning.wording import counted


def is_predict_folder(path: Path) -> bool:
    """Tell whether a folder holds samples."""
    return any(path.glob(f"*/*/{MANIFEST}"))


def read_predict_folder(path: Path, name: str) -> Run:
    """Read the samples of a prediction, finished or not. `UserError` names a damaged file."""
    samples: dict[str, dict[int, Path]] = {}
    sketches: dict[str, dict[str, str]] = {}
    settings: list[dict[str, Any]] = []
    for file in sorted(path.glob(f"*/*/{MANIFEST}")):
        if PARTIAL in file.parent.name:
            continue
        manifest = read_json(file)
        key, number = manifest.get("key"), manifest.get("sample")
        if not isinstance(key, str) or not isinstance(number, int):
            raise damaged(file, '"key" or "sample" is missing')
        samples.setdefault(key, {})[number] = file.parent
        settings.append(part(file, manifest, "made_with"))
        if isinstance(manifest.get("request"), dict):
            sketches[key] = {item: str(text) for item, text in manifest["request"].items()}
    if not settings:
        raise damaged(path, "no sample is whole")
    return Run(
        name,
        path,
        "predict",
        with_evaluations({**settings[-1], "scenes": len(samples), "samples": max(map(len, samples.values()))}),
        tuple(_notices(path, samples, settings)),
        sketches=sketches,
        samples={key: [folders[number] for number in sorted(folders)] for key, folders in samples.items()},
    )


def _notices(path: Path, samples: dict[str, dict[int, Path]], settings: list[dict[str, Any]]) -> list[str]:
    notices = []
    counts = sorted(map(len, samples.values()))
    if any(path.rglob(f"{PARTIAL}*")) or counts[0] != counts[-1]:
        number = f"{counts[0]} to {counts[-1]}" if counts[0] != counts[-1] else str(counts[0])
        samples_written = "1 sample" if number == "1" else f"{number} samples"
        notices.append(f"unfinished: {samples_written} of each of {counted(len(samples), 'scene')} written")
    if any(each != settings[-1] for each in settings):
        notices.append("holds samples that were made with several settings; those of the last are shown")
    return notices
