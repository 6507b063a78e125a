"""The model that comes with the program for linear measurements, on faces that it was not trained on."""

import pytest
import torch

import dfm_lightning
from datamodules.linear_images import DrawnImages
from dfm_lightning.forward_models.linear import (
    LinearMeasurements,
    Matrices,
    Nothing,
    PatchMasks,
    StridedMotionBlurs,
)
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.tasks import LinearInverseProblem
from dfm_lightning.tasks.linear_scores import score_image

pytestmark = pytest.mark.slow

FACES, SAMPLES = 4, 4
LAWS = {"mask": PatchMasks(0.3), "blur": StridedMotionBlurs(), "matrix": Matrices((64, 128)), "nothing": Nothing()}


@torch.no_grad()
def test_samples_follow_the_measurement_and_cover_the_truth() -> None:
    """Its training saw the faces of seeds 256 to 8191; these are others."""
    model = dfm_lightning.load("linear_faces_demo")
    assert isinstance(model, LinearInverseProblem)
    model.samples = model.draw_batch = SAMPLES
    source = DrawnImages(GeneratorSamples("drawn_faces", truncation=1.0), number=9000)
    images = torch.stack([source.read(8500 + number, 32).image for number in range(FACES)])
    scores: dict[str, dict[str, float]] = {}
    for name, law in LAWS.items():
        keys = [f"{name} {number}" for number in range(FACES)]
        generator = torch.Generator().manual_seed(0)
        batch = LinearMeasurements(law).problems(images, torch.zeros(FACES, dtype=torch.long), keys, generator)
        evaluated = model.test_step(batch._replace(truth={"image": images}), 0)["scenes"]
        each = [score_image(image) for image in evaluated]
        scores[name] = {score: sum(values[score] for values in each) / FACES for score in each[0]}
    quality = {name: values["psnr_mean"] for name, values in scores.items()}
    # The more is measured, the better are the samples.
    assert quality["nothing"] < quality["mask"]
    assert quality["nothing"] + 3 < quality["matrix"]
    assert quality["nothing"] + 6 < quality["blur"]
    for name, values in scores.items():
        assert values["psnr_of_mean"] > quality[name] + 0.5
        assert values["psnr_of_average"] > quality[name] + (0.5 if name == "blur" else 0)
    # Of the values between the least and the greatest of 4 draws, 60% would hold the truth.
    coverage = sum(values["coverage"] for values in scores.values()) / len(scores)
    assert 0.45 < coverage < 0.75
