"""FID and KID against closed forms, torchmetrics and torch-fidelity; their weights come from a file alone."""

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dfm_lightning.errors import UserError
from dfm_lightning.metrics import RealismMetrics, compare_features, warn_of_few
from dfm_lightning.metrics.realism import ROWS_AT_ONCE, frechet_distance, kernel_distance
from dfm_lightning.networks.inception import WEIGHTS_FILE


class FeaturesAsImages(nn.Module):
    """Passes features through torchmetrics, which wants to see images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).float()


def features(rows: int, shift: float, seed: int, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mixing + shift


def feed(metric: nn.Module, real: Tensor, fake: Tensor) -> None:
    for part, is_real in ((real, True), (fake, False)):
        metric.update(part[:, :, None, None].float(), real=is_real)


@pytest.mark.parametrize(("n", "m"), [(50, 40), (4, 5)], ids=["full rank", "fewer rows than features"])
def test_frechet_distance_is_that_of_torchmetrics(n: int, m: int) -> None:
    real, fake = features(n, 0.0, 0), features(m, 0.7, 1)
    metric = FrechetInceptionDistance(FeaturesAsImages(6), normalize=True, input_img_size=(6, 1, 1))
    metric.set_dtype(torch.float64)
    feed(metric, real, fake)
    # torchmetrics takes roots of eigenvalues that rounding makes negative or not where there are few rows.
    assert frechet_distance(real.float(), fake.float()) == pytest.approx(metric.compute().item(), rel=1e-4)


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    # Rows at ± s along each axis have mean zero and a diagonal covariance: Σ (s − t)² (W2 of Gaussians).
    spread, other, shift = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5]), torch.tensor([1.0, 0, 2])

    def rows(scales: Tensor) -> Tensor:
        scaled = torch.diag(scales) * (5 / 2) ** 0.5  # six rows: the variance of an axis is 2 a² / 5
        return torch.cat([scaled, -scaled])

    expected = (shift.square().sum() + (spread - other).square().sum()).item()
    assert frechet_distance(rows(spread), rows(other) + shift) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(rows(spread), rows(spread)) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_that_of_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features(40, 0.0, 2), features(40, 0.3, 3)
    metric = KernelInceptionDistance(FeaturesAsImages(6), subsets=1, subset_size=40, normalize=True)
    feed(metric, real, fake)
    expected = metric.compute()[0].item()
    assert kernel_distance(real.float(), fake.float()) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr("dfm_lightning.metrics.realism.ROWS_AT_ONCE", 7)
    assert ROWS_AT_ONCE > 7
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-4), "in blocks as well"


def test_kernel_distance_by_its_definition() -> None:
    x, y = features(3, 0.0, 4, width=2), features(4, 1.0, 5, width=2)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b / 2 + 1) ** 3

    within_x = sum(kernel(x[i], x[j]) for i in range(3) for j in range(3) if i != j) / 6
    within_y = sum(kernel(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(kernel(a, b) for a in x for b in y) / 12
    assert kernel_distance(x, y) == pytest.approx(float(within_x + within_y - 2 * between), rel=1e-9)


def test_too_few_images_have_no_score_and_few_a_warning() -> None:
    one = features(1, 0.0, 6)
    assert compare_features(one, features(9, 0.0, 7)) == {}
    assert set(warn_of_few(1, 9)) == {"fid", "kid"}
    assert "biased" in warn_of_few(100, 5000)["fid"]
    assert warn_of_few(5000, 5000) == {}
    with pytest.raises(ValueError, match=r"\b2\b"):
        frechet_distance(one, one)


def test_without_weights_both_are_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    metrics = RealismMetrics()
    assert not metrics.available
    for name in ("fid", "kid"):
        assert str(tmp_path / "hub" / "checkpoints" / WEIGHTS_FILE) in metrics.missing[name]
        assert (
            f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_FILE}"
            in (metrics.missing[name])
        )
    with pytest.raises(UserError, match="nowhere"):
        RealismMetrics(str(tmp_path / "nowhere.pth"))


class RandomInception(FeatureExtractorInceptionV3):
    """torch-fidelity's network with random weights: what it reads is left aside."""

    def __init__(self) -> None:
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("random", ["2048"], nothing)

    def load_state_dict(self, *args: object, **options: object) -> None:
        return None


@pytest.mark.slow
def test_features_are_those_of_torch_fidelity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RandomInception()
    path = tmp_path / WEIGHTS_FILE
    torch.save(network.state_dict(), path)
    images = torch.rand(3, 3, 40, 40) * 2.4 - 1.2
    state = torch.get_rng_state()
    metrics = RealismMetrics(str(path))
    assert torch.equal(torch.get_rng_state(), state)
    pixels = ((images.clamp(-1, 1) + 1) / 2 * 255).round().to(torch.uint8)
    torch.testing.assert_close(metrics.features(images), network(pixels)[0])
    assert not metrics.missing


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"

    class Runs:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "it ran",))

    for content in ({"fc.weight": torch.zeros(2)}, [torch.zeros(1)], Runs()):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"inception\.pth"):
            RealismMetrics(str(path))
    assert not (tmp_path / "it ran").exists()
