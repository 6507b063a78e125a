"""The direction of scores (higher or lower is better), by the words in their names."""

_HIGHER = frozenset({"psnr", "ssim", "agree", "accuracy", "correct"})
_LOWER = frozenset(
    {
        "lpips",
        "fid",
        "kid",
        "epe",
        "error",
        "distance",
        "rmse",
        "mse",
        "mae",
        "energy",
        "variation",
        "loss",
        "nll",
        "consistency",
    }
)
# Names that are not scores of samples: baselines, errors of measurement, ends of intervals.
_NEITHER = ("standard_error", "expected", "mean_code_", "no_motion", "repeat_context", "mean_image")


def direction_of(name: str) -> int:
    """Return 1 if higher is better, −1 if lower is, 0 if neither is or it is unknown."""
    words = set(name.split("_"))
    if any(part in name for part in _NEITHER) or words & {"low", "high", "law"}:
        return 0
    return 1 if words & _HIGHER else -1 if words & _LOWER else 0
