"""Step 0 to 1: near, far, background and corner alignment are stated once, with the forward model."""

from typing import Any

_CONVENTIONS = ("near", "far", "background", "corner_aligned")


def conventions_once(config: dict[str, Any]) -> list[str]:
    """Drop from the estimate's renderer the settings that repeat the forward model's; keep those that differ."""
    arguments = _within(config, "model")
    forward_model = _within(arguments, "forward_model")
    estimate = _within(_within(arguments, "denoiser"), "estimate_renderer")
    same = [name for name in _CONVENTIONS if name in estimate and forward_model.get(name) == estimate[name]]
    for name in same:
        del estimate[name]
    return [f"model.denoiser.estimate_renderer.{name} → model.forward_model.{name}" for name in same]


def _within(arguments: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the settings of a part; none if it is missing or no class."""
    found = arguments.get(part)
    found = found.get("init_args") if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
