"""The example of deblurring: its blur, its noise, its enumerated posterior, and that its notebook runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

FOLDER = Path(__file__).parents[2] / "examples" / "deblurring"
sys.path.insert(0, str(FOLDER))

import deblurring  # noqa: E402


def test_blurred_images_are_correlations_with_their_own_kernels() -> None:
    generator = torch.Generator().manual_seed(0)
    images, params = torch.rand(2, 1, 16, 16, generator=generator), torch.rand(2, 3, 82, generator=generator)
    found = deblurring.Blurring()(images, params)
    assert deblurring.Blurring().noise_deviation(params).shape == (2, 3, 1, 1, 1)
    for scene in range(2):
        for view in range(3):
            kernel = params[scene, view, :-1].view(9, 9).numpy()
            expected = ndimage.correlate(images[scene, 0].numpy(), kernel, mode="constant")
            np.testing.assert_allclose(found[scene, view, 0], expected, rtol=1e-4)


def test_scenes_have_the_noise_that_they_declare() -> None:
    found = []
    for scene in deblurring.scenes(40, "any"):
        for views in (scene.context, scene.target, scene.novel):
            clean = deblurring.Blurring()(scene.truth["signal"][None], views.params[None])
            deviation = deblurring.Blurring().noise_deviation(views.params[None])
            found.append((views.observation - clean[0]) / deviation[0])
    assert stats.kstest(torch.cat(found).flatten()[::7].numpy(), "norm").pvalue > 1e-3


def test_the_posterior_holds_what_it_says_on_average() -> None:
    images = deblurring.all_images().flatten(1)
    assert torch.cdist(images, images)[~torch.eye(256, dtype=torch.bool)].min() > 1
    said, right = [], []
    for scene in deblurring.scenes(400, "any"):
        chances = deblurring.posterior(scene)
        true = (images - scene.truth["signal"].flatten()).square().sum(dim=1).argmin()
        said.append(float(chances.square().sum()))  # the chance of the truth, as the posterior expects it
        right.append(float(chances[true]))
    difference = np.array(right) - np.array(said)
    assert abs(difference.mean()) < 4 * difference.std() / 20
    assert 0.1 < np.mean(said) < 0.9  # neither sure nor ignorant


def test_the_energy_distance_tells_the_posterior_from_the_prior() -> None:
    generator = torch.Generator().manual_seed(0)
    images, found = deblurring.all_images(), []
    for scene in deblurring.scenes(30, "any"):
        chances = deblurring.posterior(scene)
        laws = (chances, torch.ones(256))
        draws = [images[law.multinomial(32, replacement=True, generator=generator)] for law in laws]
        found.append([float(deblurring.energy_distance(each, chances)) for each in draws])
    exact, prior = np.array(found).T
    assert abs(exact.mean()) < 4 * exact.std() / 30**0.5
    assert prior.mean() > 0.5


@pytest.mark.slow
def test_its_notebook_runs(tmp_path: Path) -> None:
    notebook = json.loads((FOLDER / "deblurring.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "kept without outputs"
    source = "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    shorter = {"STEPS = 3000": "STEPS = 3", "Strokes()": "Strokes(count=64)", "scenes(16,": "scenes(4,"}
    for shown, short in shorter.items():
        assert shown in source
        source = source.replace(shown, short)
    checks = [
        "assert set(distances) == {'UNetDenoiser', 'MLPDenoiser', 'exact', 'prior'}",
        "assert distances['exact'] < distances['UNetDenoiser']",
    ]
    (tmp_path / "cells.py").write_text("\n".join([source, *checks]), encoding="utf-8")
    paths = {"PYTHONPATH": os.pathsep.join([str(FOLDER.parents[1]), str(FOLDER)]), "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "cells.py"], check=True, cwd=tmp_path, env={**os.environ, **paths})
