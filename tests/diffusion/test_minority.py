"""The minority score, against its value for Gaussian data, and where it ends up."""

import itertools
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from test_sampler_contract import CONTEXT, NAMES, POSITIONS, CurveDenoiser, Points
from torch import Tensor

from dfm_lightning.diffusion import DDIM, CosineProcess, MinorityScore, UniPC, VarianceExploding
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.randomness import named_noise
from dfm_lightning.types import Batch, Level, Views

PROCESS = CosineProcess()


def fresh(*shape: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("process", [PROCESS, VarianceExploding()], ids=["cosine", "exploding"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_it_is_what_gaussian_data_have_in_closed_form(process, share: float) -> None:
    score = MinorityScore(400, share)
    signal, deviation = process.exact_rates(score.level(process))
    mean, variance = 0.4, 0.09
    gain = signal * variance / (signal**2 * variance + deviation**2)

    def denoise(noisy: Tensor, level: Level) -> Tensor:
        scaling, _ = process.denoiser_input(torch.ones(1, 1), level[:1])
        return mean + gain * (noisy / float(scaling) - signal * mean)

    clean = mean + torch.tensor([[0.0], [0.3], [0.9]], dtype=torch.float64).expand(3, 64)
    found = score(denoise, clean, process, fresh(3, 64))
    apart = (clean - mean).square().mean(dim=1)
    expected = (1 - gain * signal) ** 2 * apart + (gain * deviation) ** 2
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_rare_observations_score_high() -> None:
    """Two clusters of observations, one of them 30 times as rare as the other."""
    weights, means, variance = torch.tensor([30.0, 1.0]).double(), torch.tensor([-1.0, 1.0]).double(), 0.01

    def denoise(noisy: Tensor, level: Level) -> Tensor:
        signal, deviation = PROCESS.exact_rates(int(level[0]))
        total = signal**2 * variance + deviation**2
        apart = noisy[:, None] - signal * means[:, None]
        shares = (weights.log() - apart.square().sum(dim=2) / (2 * total)).softmax(dim=1)
        centres = means[:, None] + signal * variance / total * apart
        return (shares[..., None] * centres).sum(dim=1)

    draw = fresh(200, 4)
    rare = torch.arange(200) % 2 == 1
    clean = torch.where(rare, 1.0, -1.0)[:, None] + 0.1 * draw()
    scores = MinorityScore(5, 0.5)(denoise, clean, PROCESS, draw)
    assert stats.mannwhitneyu(scores[rare], scores[~rare], alternative="greater").pvalue < 1e-20


def drawn(samples: list[int], minority: MinorityScore | None) -> tuple[DiffusionWithForwardModel, list[int], dict]:
    model = DiffusionWithForwardModel(
        CurveDenoiser(), Points(), sampler=UniPC(5), samples=3, minority=minority, guidance_scale=2.0
    )
    done: list[int] = []
    model.plan.follow(done.append)
    names = [NAMES[place] for place in samples]
    context = Views(*(part[samples] for part in CONTEXT))
    return model, done, model.sample(context, POSITIONS[samples], names, (1, 1, 1)).scores


def test_samples_are_scored_at_the_price_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    model, done, scores = drawn([0, 1, 2], MinorityScore(4))
    assert set(scores) == {"hallucination", "minority"}
    assert sum(done) == 3 * model.evaluations == 3 * (5 + 4)
    batch = Batch(CONTEXT, Views(torch.zeros(3, 1, 1, 1, 1), POSITIONS), CONTEXT, ["a", "b", "c"], {})
    assert model.work(batch) == 3 * 3 * (5 + 4 + 1)
    # By hand, from the noise that is named for it.
    sample = model.sample(CONTEXT, POSITIONS, NAMES, (1, 1, 1)).observation
    denoise, level = model.observation_denoiser(CONTEXT, POSITIONS, 3), torch.full((3,), 500)
    errors = []
    for draw in range(4):
        noise = named_noise([(*name, "minority", draw) for name in NAMES], (1, 1, 1, 1), torch.device("cpu"))
        estimate = denoise(model.process.add_noise(sample, noise, level), level).clean
        errors.append((sample - estimate).square().flatten())
    torch.testing.assert_close(scores["minority"], torch.stack(errors).mean(dim=0))
    # Each by itself is scored as with the others, and nobody is scored who does not want to be.
    for place in range(3):
        torch.testing.assert_close(drawn([place], MinorityScore(4))[2]["minority"][0], scores["minority"][place])
    assert set(drawn([0], None)[2]) == {"hallucination"}


def test_predictions_carry_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    model = DiffusionWithForwardModel(CurveDenoiser(), Points(), sampler=DDIM(3), minority=MinorityScore(2))
    first, second = itertools.islice(
        model.draw(Views(CONTEXT.observation[:1], POSITIONS[:1]), POSITIONS[:1], 2), 2
    )
    assert first.scores["minority"] != second.scores["minority"]
