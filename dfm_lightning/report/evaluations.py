"""The number of denoiser evaluations of a sample, from the recorded settings."""

from typing import Any

from dfm_lightning import diffusion
from dfm_lightning.errors import UserError


def with_evaluations(settings: dict[str, Any]) -> dict[str, Any]:
    """Add `evaluations` to settings, if they are recorded or follow from the recorded sampler."""
    if "evaluations" in settings:
        return settings
    count = _evaluations(settings)
    return settings if count is None else {**settings, "evaluations": count}


def _evaluations(settings: dict[str, Any]) -> int | None:
    kind = getattr(diffusion, str(settings.get("sampler")), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusion.Sampler)):
        return None
    # The number depends on the sampler's own settings, whatever the levels.
    own = {name.removeprefix("sampler."): value for name, value in settings.items() if name.startswith("sampler.")}
    own = {name: value for name, value in own.items() if "." not in name and name != "spacing"}
    try:
        return kind(**own).evaluations
    except (TypeError, ValueError, UserError):  # of a version with other settings
        return None
