"""Scores against scikit-image, lpips itself and hand-computed cases."""

import itertools
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.metrics import ImageMetrics, best_and_mean, psnr, spread, ssim, vector_spread


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 3, 32, 40, generator=generator) * 2 - 1
    noise = torch.randn(3, 3, 32, 40, generator=generator) * torch.tensor([0.05, 0.3, 1.0]).view(3, 1, 1, 1)
    return target + noise, target


def unit(image: Tensor) -> np.ndarray:
    return ((image.clamp(-1, 1) + 1) / 2).double().numpy().transpose(1, 2, 0)


def test_psnr_is_that_of_scikit_image(images: tuple[Tensor, Tensor]) -> None:
    expected = [peak_signal_noise_ratio(unit(b), unit(a), data_range=1.0) for a, b in zip(*images, strict=True)]
    torch.testing.assert_close(psnr(*images).double(), torch.tensor(expected).double(), rtol=1e-5, atol=0)


def test_psnr_of_a_known_error() -> None:
    grey = torch.zeros(1, 3, 4, 4)
    assert float(psnr(grey + 0.2, grey)) == pytest.approx(20.0, abs=1e-4), "0.2 of 2 is a tenth of the range"
    assert float(psnr(grey, grey)) == 100.0
    assert float(psnr(grey + 5, grey + 1)) == 100.0, "both are white"


def test_ssim_is_that_of_scikit_image(images: tuple[Tensor, Tensor]) -> None:
    # The border is mirrored around its outermost pixel; scikit-image would mirror around its edge.
    expected = []
    for image, target in zip(*images, strict=True):
        padded = [np.pad(unit(part), ((5, 5), (5, 5), (0, 0)), mode="reflect") for part in (target, image)]
        _, full = structural_similarity(
            *padded, channel_axis=2, data_range=1.0, full=True,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        expected.append(full[5:-5, 5:-5].mean())
    scores = ssim(*images)
    torch.testing.assert_close(scores.double(), torch.tensor(expected).double(), rtol=0, atol=1e-4)
    assert scores[0] > 0.9 > scores[2]


def test_lpips_without_weights_is_missing_with_the_reason(
    images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    metrics = ImageMetrics()
    assert set(metrics(*images)) == {"psnr", "ssim"}
    assert "vgg16-397923af.pth" in metrics.missing["lpips"]
    with pytest.raises(UserError, match="nowhere"):
        ImageMetrics(lpips_weights=str(tmp_path / "nowhere.pth"))


def test_lpips_with_weights_is_that_of_lpips(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().features.state_dict(prefix="features."), path)
    metrics = ImageMetrics("alex", str(path))
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    reference.net.load_state_dict(metrics._lpips.network.net.state_dict())
    expected = [reference(a[None].clamp(-1, 1), b[None]).item() for a, b in zip(*images, strict=True)]
    torch.testing.assert_close(metrics(*images)["lpips"].tolist(), expected)
    assert not metrics.missing
    small = [image[..., :12, :12] for image in images]
    assert "lpips" not in metrics(*small)
    assert "16" in metrics.missing["lpips"]


def test_the_best_sample_is_one_whole_sample() -> None:
    scores = torch.tensor([[10.0, 30.0], [25.0, 5.0], [18.0, 18.0]])
    assert best_and_mean("psnr", scores) == (20.0, pytest.approx((20 + 15 + 18) / 3))
    assert best_and_mean("lpips", scores).best == 15.0


def test_spread_is_of_all_pairs_on_the_unit_scale() -> None:
    samples = torch.tensor([-1.0, 0.0, 1.0, 7.0]).view(4, 1, 1, 1, 1).expand(4, 1, 3, 2, 2)
    pairs = [abs(a - b) for a, b in itertools.combinations([0.0, 0.5, 1.0, 1.0], 2)]
    expected = np.sqrt(np.pi) / 2 * np.mean(pairs)
    torch.testing.assert_close(spread(samples), torch.full((1, 3, 2, 2), expected).float())
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    expected = np.sqrt(np.pi) / 2 * (5 + 1 + np.sqrt(18)) / 3
    torch.testing.assert_close(vector_spread(vectors[:, :, None]), torch.tensor([expected]).float())
    for measure in (spread, vector_spread):
        with pytest.raises(ValueError, match="2 samples"):
            measure(vectors[:1])


@pytest.mark.parametrize("count", [2, 3, 16])
def test_spread_does_not_depend_on_the_number_of_samples(count: int) -> None:
    random = torch.Generator().manual_seed(0)
    normal = 0.2 * torch.randn(count, 200_000, generator=random)
    assert float(spread(normal).mean()) == pytest.approx(0.1, rel=0.01), "the standard deviation of normal values"
    # Of others it is the same for any number; a standard deviation, even that of normal values set right, is not.
    coins = torch.randint(2, (count, 200_000), generator=random) * 2.0 - 1
    assert float(spread(coins).mean()) == pytest.approx(np.sqrt(np.pi) / 4, rel=0.01)
    assert float(vector_spread(normal[:, None]).mean()) == pytest.approx(0.2, rel=0.01)
