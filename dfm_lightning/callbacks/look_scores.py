"""Compare the looks of sampled scenes' hidden parts with their known distribution."""

import numpy as np

from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.metrics.looks import distribution_of_looks, pixel_looks, sampled_looks
from dfm_lightning.tasks import EvaluatedScene
from dfm_lightning.types import LookLaw
from dfm_lightning.wording import counted

# What the scores are of, in a report.
ROLE = "hidden look"
# The share of a pixel that must show the hidden part, so that nothing beside it affects the colour.
_WHOLE = 0.99
# Fewer pixels are not conclusive.
_FEWEST = 4


def looks_of_scene(scene: EvaluatedScene, law: LookLaw) -> dict[str, np.ndarray]:
    """Find the look of each sample of a scene; nothing if too little of the hidden part shows.

    The pixels used are those of target and novel views that show the hidden part alone, in its own colour (the
    floor of a hidden room is hidden too, but of another colour). `looks` [s] and `purity` [s] are the samples',
    `estimate` [1] is the look of the deterministic estimate, `true` [1] the true one.
    """
    if "hidden" not in scene.known:
        return {}
    look = int(scene.known["look"])
    views = [view for view, role in enumerate(scene.roles) if role != "context"]
    hidden = scene.known["hidden"][views, 0] >= _WHOLE
    pixels = hidden & (pixel_looks(scene.truth[views], law.colours) == look)
    if int(pixels.sum()) < _FEWEST:
        return {}
    found = sampled_looks(scene.samples[:, views], pixels, law.colours)
    estimate = sampled_looks(scene.estimate[None, views], pixels, law.colours)
    return {
        "looks": found.look.cpu().numpy(),
        "purity": found.purity.cpu().numpy(),
        "estimated_look": estimate.look.cpu().numpy(),
        "true_look": np.array([look]),
    }


def compare_looks(found: list[dict[str, np.ndarray]], law: LookLaw) -> tuple[dict[str, Scores], dict[str, str]]:
    """Compare the looks of all scenes with their distribution; return scores by subject, and notes on reading
    them.
    """
    parts = [arrays for arrays in found if "looks" in arrays]
    if not parts:
        return {}, {}
    looks = np.stack([arrays["looks"] for arrays in parts])
    true = np.concatenate([arrays["true_look"] for arrays in parts])
    distribution = distribution_of_looks(looks, true, law.probabilities.double().numpy())
    estimated = np.concatenate([arrays["estimated_look"] for arrays in parts])
    shares = {**dict(zip(law.names, distribution.shares, strict=True)), "undecided": distribution.undecided}
    distance, low, high = distribution.total_variation
    scores: Scores = {
        "total_variation": distance,
        "total_variation_low": low,
        "total_variation_high": high,
        "purity": float(np.mean([arrays["purity"] for arrays in parts])),
        "agreement": distribution.agreement,
        "correct": distribution.correct,
        "expected_agreement": distribution.expected_agreement,
        "estimate_undecided": float((estimated < 0).mean()),
    }
    for name, share in shares.items():
        values = {"": share.share, "_low": share.low, "_high": share.high, "_law": share.probability}
        scores |= {f"{name}{part}": value for part, value in values.items()}
    note = (
        f"shares of looks beside their law, of {counted(looks.shape[1], 'sample')} of each of "
        f"{counted(len(looks), 'scene')} in whose views the hidden part shows; a sample is undecided if fewer "
        "than half of the pixels that show the part have one of the colours; 95% intervals by bootstrap over "
        "scenes; agreement: how often two samples of a scene agree; correct: how often one has the true look; "
        "both equal expected_agreement for samples that follow the law"
    )
    finite = {name: value for name, value in scores.items() if np.isfinite(value)}
    return {ROLE: finite}, {ROLE: note}
