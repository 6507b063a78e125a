"""Read what `dfm fit` has logged: config.yaml and TensorBoard's event files."""

import math
from pathlib import Path
from typing import Any

from dfm_lightning.report.runs import Curve, Run
from dfm_lightning.report.stored_files import damaged, read_yaml
from dfm_lightning.wording import counted

CONFIG, EVENTS = "config.yaml", "events.out.tfevents.*"
# Logged, but not worth a chart.
_LEFT_OUT = frozenset({"epoch", "hp_metric"})


def is_fit_folder(path: Path) -> bool:
    """Tell whether a folder holds a training's logs."""
    return any(path.glob(EVENTS))


def read_fit_folder(path: Path, name: str) -> Run:
    """Read the curves of a training, finished or not. `UserError` names a damaged file."""
    config = read_yaml(path / CONFIG) if (path / CONFIG).is_file() else {}
    scalars = _read_scalars(path)
    start = min((events[0].wall_time for events in scalars.values()), default=0.0)
    curves = {
        tag: Curve(
            [event.step for event in events],
            [(event.wall_time - start) / 3600 for event in events],
            [event.value for event in events],
        )
        for tag, events in sorted(scalars.items())
        if tag not in _LEFT_OUT
    }
    finite = {tag: _finite(curve) for tag, curve in curves.items()}
    lost = sum(len(curves[tag].steps) - len(finite[tag].steps) for tag in curves)
    notices = _progress(config, curves, scalars)
    if lost:
        notices.append(f"not drawn: {counted(lost, 'logged number')} not finite")
    return Run(
        name,
        path,
        "fit",
        _settings(config),
        tuple(notices),
        curves={tag: curve for tag, curve in finite.items() if curve.steps},
    )


def _read_scalars(path: Path) -> dict[str, list[Any]]:
    # Slow to import.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    try:
        # 0: all of them; by default a sample.
        log = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
        log.Reload()
        return {tag: log.Scalars(tag) for tag in log.Tags()["scalars"]}
    except Exception as error:  # whatever the reader raises for bytes that are not events
        raise damaged(next(iter(sorted(path.glob(EVENTS)))), error) from error


def _finite(curve: Curve) -> Curve:
    rows = [row for row in zip(*curve, strict=True) if math.isfinite(row[2])]
    steps, hours, values = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    return Curve(steps, hours, values)


def _progress(config: dict[str, Any], curves: dict[str, Curve], scalars: dict[str, list[Any]]) -> list[str]:
    """Describe a training that has not come to its end."""
    if not curves:
        return ["unfinished: no step is logged yet"]
    last = max(curve.steps[-1] for curve in curves.values()) + 1
    trainer = config.get("trainer") or {}
    most, every = trainer.get("max_steps") or -1, trainer.get("log_every_n_steps") or 50
    # The last steps may not be logged.
    if most > 0 and last + every <= most:
        return [f"unfinished: the last step logged is {last} of {most}"]
    epochs = trainer.get("max_epochs") or -1
    if most <= 0 < epochs and "epoch" in scalars and scalars["epoch"][-1].value + 1 < epochs:
        return [f"unfinished: the last epoch logged is {int(scalars['epoch'][-1].value) + 1} of {epochs}"]
    return []


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a config that tables show, named as results name them."""
    model = config.get("model") or {}
    trainer = config.get("trainer") or {}
    settings = {
        "model": str(model.get("class_path", "")).rsplit(".", 1)[-1] or None,
        "seed": config.get("seed_everything"),
        "max_steps": trainer.get("max_steps"),
        "precision": trainer.get("precision"),
    }
    return {name: value for name, value in settings.items() if value is not None}
