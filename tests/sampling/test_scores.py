"""The scores beside samples, against their formula and against samples that are made up."""

import json
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1] / "tuning"))

from exact_model import MIXTURE, exact_model, scenes

from dfm_lightning.callbacks import TensorWriter
from dfm_lightning.diffusion import DDIM, Quadratic, UniPC
from dfm_lightning.diffusion.gradients import refuse_noise
from dfm_lightning.randomness import named_noise
from dfm_lightning.sampling.draws import draw_signals, hallucination
from dfm_lightning.types import as_request


@pytest.mark.parametrize("steps", [1, 7])
def test_the_score_is_the_variance_of_the_last_estimates(steps: int) -> None:
    model = exact_model(UniPC(steps, spacing=Quadratic()))
    names: list[tuple[str | int, ...]] = [("scene", draw) for draw in range(4)]
    denoise = model.observation_denoiser(scenes(1)[0].context, scenes(1)[0].target.params, 4)
    device = torch.device("cpu")
    drawn = draw_signals(denoise, model.sampler, model.process, names, (3, 1, 1), device, lambda done: None)
    noise = named_noise([(*name, 0) for name in names], (1, 3, 1, 1), device)
    estimates = [step.clean for step in model.sampler.sample(denoise, noise, model.process, refuse_noise)]
    last = torch.stack(estimates[-3:])
    expected = ((last - last.mean(dim=0)) ** 2).mean(dim=(0, 2, 3, 4, 5))
    torch.testing.assert_close(drawn.scores["hallucination"], expected)


def test_samples_between_the_clusters_have_the_higher_score() -> None:
    # Few steps leave some samples between clusters, which the exact denoiser is undecided about.
    model = exact_model()
    noise = named_noise([("noise", row) for row in range(600)], (1, 3, 1, 1), torch.device("cpu"))
    batch = scenes(1)[0]
    denoise = model.observation_denoiser(batch.context, batch.target.params, 600)
    cleans = [
        step.clean for step in DDIM(12, spacing=Quadratic()).sample(denoise, noise, model.process, lambda: noise)
    ]
    score = hallucination(cleans[-6:])
    distance = (cleans[-1].flatten(1)[:, None] - MIXTURE.means).norm(dim=2) / MIXTURE.stds
    nearest = distance.min(dim=1).values
    worst = score > score.quantile(0.9)
    assert nearest[worst].mean() > 1.15 * nearest[~worst].mean()


def test_it_is_written_beside_each_sample(tmp_path: Path) -> None:
    batch = scenes(1)[0]
    model = exact_model(DDIM(4))
    model.samples = 3
    writer = TensorWriter(str(tmp_path / "found"))
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False)
    loader = DataLoader([as_request(batch)], batch_size=None)
    trainer.predict(model, loader, return_predictions=False)
    key = batch.key[0]
    written = [
        json.loads((tmp_path / "found" / key / f"sample_0{draw}" / "sample.json").read_text())["scores"]
        for draw in range(3)
    ]
    drawn = model.draw(batch.context, as_request(batch).params, samples=3, keys=[key])
    assert written == [prediction.scores for prediction in drawn]
    assert len({scores["hallucination"] for scores in written}) == 3
