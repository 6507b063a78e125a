"""Step 1 to 2: trained models are told levels by their number, whatever a later config says."""

from typing import Any

from dfm_lightning.migrations.parts import settings_within

_DENOISERS = ("ImageToMotion", "MLPDenoiser", "PatchToCode", "PixelNeRFDenoiser")


def levels_by_number(config: dict[str, Any]) -> list[str]:
    """State in the config of a whole run what it left implicit, since there was no other option. Overlays stay the
    same.
    """
    denoiser = settings_within(config, "model").get("denoiser")
    if "seed_everything" not in config or not isinstance(denoiser, dict):
        return []
    if str(denoiser.get("class_path")).rpartition(".")[2] in _DENOISERS:
        denoiser.setdefault("init_args", {}).setdefault("smooth_levels", False)
    return []
