"""The example of a pendulum: its motion, its observations, its exact posterior, and its scores."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import integrate, stats
from torch.utils.data import default_collate

FOLDER = Path(__file__).parents[2] / "examples" / "pendulum"
sys.path.insert(0, str(FOLDER))

import pendulum  # noqa: E402

from dfm_lightning.denoisers import UNetDenoiser  # noqa: E402
from dfm_lightning.diffusion import DDIM, ContextGuidance  # noqa: E402
from dfm_lightning.types import Batch, Prediction  # noqa: E402


def test_it_swings_as_newton_says() -> None:
    times = np.arange(64) * 0.2
    for angle, speed, pull in ((1.9, 0.8, 0.6), (-0.5, 0.0, 1.4)):
        found = pendulum.swing(*(torch.tensor([value]) for value in (angle, speed, pull)))

        def law(_: float, state: np.ndarray, pull: float = pull) -> list[float]:
            return [state[1], -pull * np.sin(state[0]) - 0.1 * state[1]]

        expected = integrate.solve_ivp(law, (0, times[-1]), [angle, speed], t_eval=times, rtol=1e-8).y[0]
        np.testing.assert_allclose(found[0, 0], expected, atol=0.03)


def test_a_displacement_is_the_sine_of_the_angle_between_samples_too() -> None:
    curves = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))
    params = torch.tensor([[[0.0, 3.25, 63.0, 0.1], [7.5, 8.0, 62.9, 0.02]]]).repeat(2, 1, 1)
    found = pendulum.Displacements()(curves, params)
    assert found.shape == (2, 2, 1, 1, 3)
    for scene in range(2):
        for view in range(2):
            expected = np.sin(np.interp(params[scene, view, :3], np.arange(64), curves[scene, 0]))
            np.testing.assert_allclose(found[scene, view, 0, 0], expected, atol=1e-5)


def test_scenes_have_the_noise_that_they_declare() -> None:
    found = []
    for scene in pendulum.scenes(40, "any"):
        for views in (scene.context, scene.target, scene.novel):
            clean = pendulum.Displacements()(scene.truth["signal"][None], views.params[None])
            deviation = pendulum.Displacements().noise_deviation(views.params[None])
            found.append(((views.observation - clean[0]) / deviation[0]).flatten())
    assert stats.kstest(torch.cat(found).numpy(), "norm").pvalue > 1e-3


@pytest.mark.slow
def test_the_truth_ranks_evenly_among_exact_draws() -> None:
    generator, ranks = torch.Generator().manual_seed(0), []
    for scene in pendulum.scenes(60, "any"):
        chances = pendulum.posterior(scene)
        assert 1 / chances.square().sum() > 20  # so many curves count
        drawn = pendulum.curves_of_prior()[chances.multinomial(500, replacement=True, generator=generator)]
        true = scene.truth["signal"]
        ranks.append([float((drawn[:, 0, place] < true[0, place]).float().mean()) for place in (0, 40)])
    for each in np.array(ranks).T:
        assert stats.kstest(each, "uniform").pvalue > 1e-3


@pytest.mark.slow
def test_scores_tell_exact_draws_from_others() -> None:
    (scene,) = pendulum.scenes(1, "any")
    generator = torch.Generator().manual_seed(1)
    curves, chances = pendulum.curves_of_prior(), pendulum.posterior(scene)
    model = pendulum.Pendulum(UNetDenoiser([1, 64], widths=[8]), pendulum.Displacements())
    batch, found = Batch(*default_collate([scene])), []
    for law in (chances, torch.ones(len(curves))):
        drawn = curves[law.multinomial(64, replacement=True, generator=generator)]
        draws = [Prediction("any0", i, each[None], each, (), scene.context) for i, each in enumerate(drawn)]
        found.append(model.score(draws, batch))
    exact, prior = found
    assert exact["consistency_exact"] == pytest.approx(0.1, rel=0.5)
    assert exact["consistency_exact"] == prior["consistency_exact"]
    assert abs(exact["energy_distance"]) < 0.05 * prior["energy_distance"]
    assert exact["signal_spread_exact"] < 0.5


def test_it_samples_with_the_settings_of_its_config() -> None:
    settings = yaml.safe_load((FOLDER / "pendulum.yaml").read_text())["model"]["init_args"]
    denoiser = UNetDenoiser(**settings["denoiser"]["init_args"])
    model = pendulum.Pendulum(
        denoiser, pendulum.Displacements(), sampler=DDIM(2), context_guidance=ContextGuidance(3), draw_batch=2
    )
    scene = pendulum.scenes(1, "any")[0]
    drawn = model.draw(scene.context, scene.target.params, samples=2, seed=0)
    assert drawn[1].signal.shape == (1, 1, 64)
    assert torch.isfinite(drawn[1].signal).all()
