"""Shares of sampled attributes beside their known distribution, from joint scores."""

from dfm_lightning.report.charts import Share, ShareChart, share_chart
from dfm_lightning.report.comparisons import Score, estimate_of, scores_of
from dfm_lightning.report.runs import Run

# Half the width of a 95% interval in standard errors.
_NORMAL = 1.96
AGREE = "agree"
# Suffix of a share's name, for its expected value.
_EXPECTED = "_expected"
# The share of samples below the truth, 0.5 on average if the samples are of the true distribution.
_RANK = "rank"
# Suffix of the name of a share of all scenes, for its probability.
_LAW = "_law"


def truth_charts(runs: list[Run]) -> list[ShareChart]:
    """Chart shares beside their distribution, if tests have some, and attributes that agree with the true ones."""
    laws = [share for run in runs for share in _shares(run)]
    agreements = [share for run in runs for share in _agreements(run)]
    expected = [share for run in runs for share in _expected(run)]
    ranks = [share for run in runs for share in _ranks(run)]
    charts = []
    if expected:
        charts.append(share_chart("Coverage and what samples of the truth would have", expected))
    if ranks:
        charts.append(share_chart("Rank of the truth among samples: the share of samples below it", ranks))
    if laws:
        charts.append(share_chart("Sampled attributes and their law", laws))
    if agreements:
        charts.append(share_chart("Attributes that samples share with the truth", agreements))
    return charts


def _shares(run: Run) -> list[Share]:
    """Find shares beside their distribution: a score NAME beside NAME_law, or `share` beside `true_probability`.

    Each has the ends of its interval (`_low`, `_high`), or a standard error.
    """
    found = []
    for role, scores in run.joint.items():
        for name, share in scores.items():
            if f"{name}{_LAW}" in scores:
                ends = (scores.get(f"{name}_low"), scores.get(f"{name}_high"))
                found.append(Share(f"{role}: {name}", run.name, share, *ends, scores[f"{name}{_LAW}"]))
    for name, scores in run.joint.items():
        if not {"share", "true_probability"} <= scores.keys():
            continue
        share, error = scores["share"], scores.get("standard_error")
        low, high = scores.get("share_low"), scores.get("share_high")
        if low is None and high is None and error is not None:
            low, high = share - _NORMAL * error, share + _NORMAL * error
        found.append(Share(name, run.name, share, low, high, scores["true_probability"]))
    return found


def _expected(run: Run) -> list[Share]:
    """Find coverage beside its expectation for samples from the true distribution."""
    found, scores = [], scores_of(run)
    for score in scores:
        law = Score(score.role, f"{score.name}{_EXPECTED}")
        if law in scores:
            estimate, expectation = estimate_of(run, score), estimate_of(run, law)
            assert estimate is not None
            assert expectation is not None
            found.append(Share(_label(score), run.name, *estimate[:3], expectation.mean))
    return found


def _ranks(run: Run) -> list[Share]:
    """Find the mean ranks of the truth among the samples, of the observation and of the signal."""
    found = []
    for score in scores_of(run):
        estimate = estimate_of(run, score) if _RANK in score.name.split("_") else None
        if estimate is not None:
            found.append(Share(_label(score), run.name, *estimate[:3], 0.5))
    return found


def _label(score: Score) -> str:
    return score.name if score.role == "all" else f"{score.name} ({score.role})"


def _agreements(run: Run) -> list[Share]:
    found = []
    for score in scores_of(run):
        estimate = estimate_of(run, Score(score.role, AGREE)) if score.name == AGREE else None
        if estimate is not None:
            label = {"patch": "within the patch", "hidden": "outside of it"}.get(score.role, score.role)
            found.append(Share(label, run.name, estimate.mean, estimate.low, estimate.high, None))
    return found
