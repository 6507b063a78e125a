"""Whether samples follow a distribution: energy distance with a permutation test, and ranks of the truth.

Both tests are calibrated: if the samples are right, a p-value below α comes up with probability α, whatever the
distribution looks like.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from lightning.pytorch import seed_everything
from mixture import three_clusters
from problem import observe_signals
from scipy import stats
from torch import Tensor

from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import Batch, Views

# How much is compared, and from what p-value on the samples are rejected. Chosen so that what a minute of training
# leaves to be desired is not detected, while mistakes are (docs/notes/closed_form.md has the error rates).
SCENES, DRAWS = 100, 8
ALPHA = 1e-4
PERMUTATIONS = 19_999
TOLERANCE = 1e-4  # of observations in float32

CHUNK = 100  # permutations that are in memory at a time


class EnergyTest(NamedTuple):
    """The energy distance of samples, how far that is above chance in standard deviations, and its p-value."""

    distance: float
    deviations: float
    p_value: float


def energy_test(
    first: Float[Tensor, "b n d"], second: Float[Tensor, "b n d"], permutations: int, generator: torch.Generator
) -> EnergyTest:
    """Compare `b` pairs of samples, each pair of a distribution of its own, by their mean energy distance.

    The distance is 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ (Székely and Rizzo 2013, eq. 6.1), a point's distance to
    itself included. If both samples of a pair come from the same distribution, which points are in which of them
    is chance; so the points of each pair are dealt anew, `permutations` times, and the p-value is how often the
    distance comes out as large as it was.
    """
    pairs, draws = first.shape[:2]
    pooled = torch.cat([first, second], dim=1).double()
    distances = torch.cdist(pooled, pooled)
    side = torch.ones(pairs, 2 * draws, dtype=pooled.dtype)
    side[:, draws:] = -1

    def mean_distance(sides: Float[Tensor, "p b m"]) -> Float[Tensor, " p"]:
        # With ±1 for the side of each point, the energy distance is a quadratic form.
        return -torch.einsum("pbm,bmk,pbk->p", sides, distances, sides) / (pairs * draws**2)

    observed = float(mean_distance(side[None])[0])
    dealt = []
    for start in range(0, permutations, CHUNK):
        shape = (min(CHUNK, permutations - start), pairs, 2 * draws)
        order = torch.rand(shape, generator=generator).argsort(dim=2)
        dealt.append(mean_distance(side[0][order]))
    chance = torch.cat(dealt)
    deviations = float((observed - chance.mean()) / chance.std())
    return EnergyTest(observed, deviations, (1 + int((chance >= observed).sum())) / (1 + permutations))


def ranks(samples: Float[Tensor, "b n d"], truth: Float[Tensor, "b d"]) -> Int[Tensor, "b d"]:
    """How many of a scene's samples are below its true value, coordinate by coordinate: 0 to n."""
    return (samples < truth[:, None]).sum(dim=1)


def uniformity(ranks: Int[Tensor, " b"], draws: int) -> float:
    """The p-value of a χ² test that ranks among so many samples are uniform over 0 … `draws`.

    They are, if the truth is one more draw from the samples' distribution (Talts et al. 2018, theorem 1).
    """
    return float(stats.chisquare(torch.bincount(ranks, minlength=draws + 1).numpy()).pvalue)


class Verdict(NamedTuple):
    """How a model's samples compare with the exact posterior.

    `rank_p_value` is the smallest p-value of a coordinate times their number (Bonferroni), `inconsistency` the
    largest difference between a sampled target observation and the target observation of the sampled signal.
    """

    energy: EnergyTest
    rank_p_value: float
    inconsistency: float

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the samples."""
        return min(self.energy.p_value, self.rank_p_value) >= ALPHA and self.inconsistency < TOLERANCE


class Draws(NamedTuple):
    """Signals drawn for each of b scenes, by the model and from the exact posterior."""

    scenes: Batch
    sampled: Float[Tensor, "b n d"]
    observed: Float[Tensor, "b n c"]
    exact: Float[Tensor, "b n d"]


def draw(model: DiffusionWithForwardModel, seed: int, scenes: int = SCENES, draws: int = DRAWS) -> Draws:
    """New scenes, and signals for each context."""
    seed_everything(seed, verbose=False)
    mixture = three_clusters()
    size = model.target_size(Views(torch.empty(0, 1, 1, 1, 1), None))
    batch = observe_signals(mixture, scenes, size[0])
    rows, values = batch.context.params[:, 0], batch.context.observation[:, 0, :, 0, 0]
    names = [("comparison", scene, number) for scene in range(scenes) for number in range(draws)]
    sample = model.sample(batch.context, batch.target.params, names, size)
    return Draws(
        batch,
        sample.signal.unflatten(0, (scenes, draws)),
        sample.observation.flatten(1).unflatten(0, (scenes, draws)),
        mixture.sample_posterior(rows, values, draws),
    )


def judge(drawn: Draws, permutations: int = PERMUTATIONS) -> Verdict:
    """Compare the model's draws with the exact ones, and with the truth."""
    truth = drawn.scenes.truth["signal"]
    places = ranks(drawn.sampled, truth)
    draws, coordinates = drawn.sampled.shape[1:]
    p_values = [uniformity(places[:, coordinate], draws) for coordinate in range(coordinates)]
    seen = drawn.sampled @ drawn.scenes.target.params[:, 0].mT
    return Verdict(
        energy_test(drawn.exact, drawn.sampled, permutations, generator_for("permutations")),
        min(1.0, coordinates * min(p_values)),
        float((seen - drawn.observed).abs().max()),
    )


class Spread(NamedTuple):
    """The standard deviation of a scene's draws over that of the exact posterior's, and its standard error."""

    ratio: float
    error: float


def relative_spread(drawn: list[Draws]) -> Spread:
    """Compare how much draws of the same scene differ; variances are averaged over the scenes of all comparisons.

    The exact variance is that of 256 draws. The standard error is over scenes, by the delta method.
    """
    pairs = []
    for each in drawn:
        rows, values = each.scenes.context.params[:, 0], each.scenes.context.observation[:, 0, :, 0, 0]
        generator = generator_for("exact spread", len(pairs))
        exact = three_clusters().sample_posterior(rows, values, 256, generator)
        pairs.append([signals.var(dim=1).sum(dim=1).double() for signals in (each.sampled, exact)])
    mine, theirs = (torch.cat(part) for part in zip(*pairs, strict=True))
    squared = mine.mean() / theirs.mean()
    of_squared = (mine - squared * theirs).std() / theirs.mean() / len(mine) ** 0.5
    return Spread(float(squared.sqrt()), float(of_squared / (2 * squared.sqrt())))
