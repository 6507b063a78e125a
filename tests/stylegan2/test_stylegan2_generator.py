"""Our StyleGAN2 generator against the official code's values and against one written step by step."""

import gzip
from pathlib import Path

import pytest
import torch
from official_layout import generator as official_generator
from official_layout import snapshot, weights
from straightforward_stylegan2 import map_codes, synthesise

from dfm_lightning.checkpoints.stylegan2 import import_generator
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.architecture import Architecture, channels_by_resolution
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import generator_hash, read_generator, write_generator

DATA = Path(__file__).parents[1] / "data"


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return ((value - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return torch.load(DATA / "stylegan2_small_expected.pt", weights_only=True)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    path = tmp_path_factory.mktemp("official") / "network-snapshot.pkl"
    path.write_bytes(gzip.decompress((DATA / "stylegan2_small.pkl.gz").read_bytes()))
    return import_generator(path).requires_grad_(False)


def imported(tmp_path: Path, network: object) -> Generator:
    path = tmp_path / "made.pkl"
    path.write_bytes(snapshot(network))
    return import_generator(path).requires_grad_(False)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_codes_and_images_are_the_official_ones(reference, expected, precision) -> None:
    network, z = reference.to(precision), expected["z"].to(precision)
    assert relative_error(network.codes(z, truncation=0.5)[:, 7], expected["w"]) < 1e-6
    assert relative_error(network.codes(z)[:, 0], expected["w_psi1"]) < 1e-6
    assert relative_error(network.codes(z, truncation=0.5, cutoff=4), expected["w_cutoff4"]) < 1e-6
    codes = expected["w"][:2, None].to(precision)
    assert relative_error(network(codes), expected["img_const"]) < 2e-6
    assert relative_error(network(codes, "none"), expected["img_none"]) < 2e-6
    assert relative_error(network(expected["wplus"].to(precision)), expected["img_wplus_const"]) < 2e-6
    network.float()


@pytest.mark.parametrize(
    "options",
    [
        {"channels": (7, 5, 4)},
        {"channels": (5, 6), "labels": 3, "depth": 1},
        {"channels": (6, 6, 5), "clamp": 0.8},
        {"channels": (4,)},
        {"channels": (5, 4, 3, 3, 2, 2, 2), "clamp": 256, "fp16_from": 32},
    ],
    ids=["three blocks", "labels", "clamp", "4 px", "256 px"],
)
def test_equals_the_straightforward_version(tmp_path: Path, options: dict) -> None:
    torch.manual_seed(1)
    network = official_generator(**options)
    ours, theirs = imported(tmp_path, network).double(), weights(network)
    layers, labels = 2 * len(options["channels"]), options.get("labels", 0)
    z, label = torch.randn(3, 8, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[:, :labels]
    clamp = options.get("clamp", float("inf"))

    codes = map_codes(theirs, z, label if labels else None, 0.7, 2, layers)
    torch.testing.assert_close(ours.codes(z, label, truncation=0.7, cutoff=2), codes, rtol=1e-10, atol=1e-10)
    for noise in (True, False):
        image = ours(codes, "const" if noise else "none")
        torch.testing.assert_close(image, synthesise(theirs, codes, noise, clamp), rtol=1e-8, atol=1e-8)
        assert image.shape[2] == 4 * 2 ** (len(options["channels"]) - 1)


def test_random_noise_is_drawn_for_each_image_and_scaled_by_its_strength(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = imported(tmp_path, official_generator((5, 4)))
    codes = network.codes(torch.randn(1, 8)).expand(2, -1, -1)
    torch.manual_seed(0)
    first = network(codes, "random")
    torch.manual_seed(0)
    assert torch.equal(network(codes, "random"), first), "drawn from the global generator"
    assert not torch.allclose(first[0], first[1])
    for name, strength in network.named_parameters():
        if name.endswith("noise_strength"):
            strength.zero_()
    torch.testing.assert_close(network(codes, "random"), network(codes, "none"))


def test_labels_are_asked_for() -> None:
    network = Generator(Architecture(4, 4, (3,), (4,), labels=2, label_features=4))
    with pytest.raises(ValueError, match=r"labels.*\b2\b.*\b0\b"):
        network.codes(torch.randn(1, 4))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_and_keeps_colours_in_full_precision(reference, expected, half) -> None:
    with torch.autocast("cpu", dtype=half):
        image = reference(expected["w"][:2, None])
    assert image.dtype == torch.float32
    assert relative_error(image, expected["img_const"]) < (0.02 if half == torch.bfloat16 else 0.003)


def test_half_precision_survives_large_weights() -> None:
    """Demodulation makes a layer blind to the magnitude of its weights; half precision must be as well."""
    torch.manual_seed(0)
    network = Generator(Architecture(4, 4, (64, 64), (4,))).requires_grad_(False)
    codes = torch.randn(2, 1, 4)
    plain = network(codes)
    for name, weight in network.named_parameters():
        if name.endswith("convolutions.0.weight") or name.endswith("convolutions.1.weight"):
            weight.mul_(300)
    with torch.autocast("cpu", dtype=torch.float16):
        assert relative_error(network(codes), plain) < 0.01


def test_gradients_with_respect_to_codes() -> None:
    torch.manual_seed(3)
    network = Generator(Architecture(2, 2, (2, 2), (2,), conv_clamp=2.0)).double().requires_grad_(False)
    codes = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (codes,))


def test_the_file_gives_back_the_generator(tmp_path: Path, reference) -> None:
    path = tmp_path / "generator.safetensors"
    write_generator(reference, path)
    state = torch.get_rng_state()
    again = read_generator(path)
    assert torch.equal(torch.get_rng_state(), state), "reading draws nothing"
    assert again.architecture == reference.architecture
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), reference.state_dict().values(), strict=True)
    )
    assert generator_hash(again) == generator_hash(reference)
    with torch.no_grad():
        next(again.synthesis.blocks[1].parameters()).view(-1)[0] += 1e-6
    assert generator_hash(again) != generator_hash(reference)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    with pytest.raises(UserError, match=r"generator.safetensors.*dfm convert stylegan2"):
        read_generator(path)
    path.write_bytes(b"no such format")
    with pytest.raises(UserError, match=r"generator.safetensors.*dfm convert stylegan2"):
        read_generator(path)


def test_channels_by_resolution() -> None:
    # FFHQ at 256 pixels ("paper256").
    assert channels_by_resolution(256, 16384, 512) == (512, 512, 512, 512, 256, 128, 64)
    with pytest.raises(ValueError, match=r"\b48\b"):
        channels_by_resolution(48, 1024, 64)
