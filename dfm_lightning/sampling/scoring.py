"""Scores of the draws for one scene, against what was held out of it and against its context."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.metrics.samples import energy_score


def score_draws(draws: Float[Tensor, "s *o"], truth: Float[Tensor, "*o"], prefix: str = "") -> dict[str, float]:
    """Score draws of one scene against the truth, by name.

    rmse_mean: root mean square error of a draw, on average; rmse_best: of the best draw; rmse_of_mean: of the
    draws' mean; energy_score: see `metrics.energy_score`. The second and third fall as the number of draws grows,
    the others do not depend on it.

    Of several draws also: spread, the root mean square over numbers of the draws' standard deviation (of the true
    distribution, rmse_mean is about √2 times that); coverage, the share of numbers whose true value lies within
    the values drawn, and coverage_expected, (n − 1)/(n + 1), what it is for n draws of the true distribution; and
    rank, the share of draws below the true value (those equal count half), on average over numbers: 0.5 for draws
    of the true distribution.
    """
    draws, truth = draws.flatten(1).double(), truth.flatten().double()
    errors = (draws - truth).square().mean(dim=1).sqrt()
    scores = {
        "rmse_mean": errors.mean().item(),
        "rmse_best": errors.min().item(),
        "rmse_of_mean": (draws.mean(dim=0) - truth).square().mean().sqrt().item(),
        "energy_score": energy_score(draws, truth),
    }
    number = len(draws)
    if number > 1:
        within = (draws.amin(dim=0) <= truth) & (truth <= draws.amax(dim=0))
        below = (draws < truth).double() + 0.5 * (draws == truth).double()
        scores |= {
            "spread": draws.var(dim=0).mean().sqrt().item(),
            "coverage": within.double().mean().item(),
            "coverage_expected": (number - 1) / (number + 1),
            "rank": below.mean().item(),
        }
    return {prefix + name: value for name, value in scores.items()}


def score_signals(signals: list[Any], truth: dict[str, Tensor], row: int) -> dict[str, float]:
    """Score drawn signals of one scene, each a batch of one, if they are tensors and `truth` holds a "signal".

    See `score_draws`; names begin with "signal_".
    """
    true = truth.get("signal")
    if true is None or not all(isinstance(signal, Tensor) for signal in signals):
        return {}
    drawn = torch.cat(signals)
    return score_draws(drawn, true[row], "signal_") if drawn.shape[1:] == true.shape[1:] else {}


def score_consistency(
    observed: list[Tensor], context: Float[Tensor, "v *o"], deviation: Tensor | None
) -> dict[str, float]:
    """Score draws, observed under the context's own parameters.

    consistency: root mean square difference from the context, on average over draws; consistency_expected: that of
    the true signal, where the context's noise is known.

    Args:
        observed: of each draw, a batch of one.
        context: what was observed.
        deviation: standard deviation of the noise in it, as `ForwardModel.noise_deviation` gives it.
    """
    errors = [(each[0].double() - context.double()).square().mean().sqrt().item() for each in observed]
    scores = {"consistency": sum(errors) / len(errors)}
    if deviation is not None and bool(torch.isfinite(deviation).all()):
        scores["consistency_expected"] = (
            deviation.double().expand(context[None].shape).square().mean().sqrt().item()
        )
    return scores
