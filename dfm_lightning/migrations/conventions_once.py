"""Step 0 to 1: near, far, background and corner alignment are stated once, with the forward model."""

from typing import Any

from dfm_lightning.migrations.parts import settings_within

_CONVENTIONS = ("near", "far", "background", "corner_aligned")


def conventions_once(config: dict[str, Any]) -> list[str]:
    """Drop from the estimate's renderer the settings that repeat the forward model's; keep those that differ."""
    arguments = settings_within(config, "model")
    forward_model = settings_within(arguments, "forward_model")
    estimate = settings_within(settings_within(arguments, "denoiser"), "estimate_renderer")
    same = [name for name in _CONVENTIONS if name in estimate and forward_model.get(name) == estimate[name]]
    for name in same:
        del estimate[name]
    return [f"model.denoiser.estimate_renderer.{name} → model.forward_model.{name}" for name in same]
