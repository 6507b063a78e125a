"""The importer of official StyleGAN2-ADA pickles, on files in their layout."""

import collections
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
import torch
from official_layout import generator, module, snapshot, state_of, weights

from dfm_lightning.checkpoints.stylegan2 import convert_stylegan2, import_generator
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.storage import read_generator

CHANNELS = (5, 4, 3)


def write(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dicts", [dict, collections.OrderedDict])
def test_takes_the_averaged_generator_at_every_protocol(tmp_path: Path, protocol: int, dicts: type) -> None:
    torch.manual_seed(0)
    averaged, other = generator(CHANNELS, dicts=dicts), generator(CHANNELS, dicts=dicts)
    contents = snapshot(averaged, protocol, G=other)
    ours = import_generator(write(tmp_path / "a.pkl", contents))
    theirs = weights(averaged)
    state = ours.state_dict()
    assert torch.equal(state["synthesis.constant"].double(), theirs["synthesis.b4.const"])
    assert torch.equal(state["mapping.mean_code"].double(), theirs["mapping.w_avg"])
    last = "synthesis.blocks.2.convolutions.0.weight"
    assert torch.equal(state[last].double(), theirs["synthesis.b16.conv0.weight"])


def test_names_of_numpy_1_and_2(tmp_path: Path) -> None:
    new = snapshot(generator(CHANNELS), 3)
    old = new.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    if old == new:  # written by numpy 1
        new = old.replace(b"numpy.core.multiarray\n", b"numpy._core.multiarray\n")
    assert old != new
    for number, contents in enumerate((old, new)):
        import_generator(write(tmp_path / f"{number}.pkl", contents))


def test_reads_architecture_from_weights_and_attributes(tmp_path: Path) -> None:
    network = generator(CHANNELS, z=7, w=6, labels=2, depth=3, clamp=256, fp16_from=8)
    shape = import_generator(write(tmp_path / "a.pkl", snapshot(network))).architecture
    assert shape.channels == CHANNELS
    assert (shape.z_dim, shape.w_dim, shape.labels, shape.label_features) == (7, 6, 2, 6)
    assert shape.mapping_features == (6, 6, 6)
    assert shape.mapping_lr_multiplier == 0.01
    assert shape.conv_clamp == 256
    assert shape.half_precision_from == 8


def test_tensors_that_share_a_storage_or_are_strided(tmp_path: Path) -> None:
    network = generator(CHANNELS)
    wide = torch.randn(6, 12)
    state_of(network, "mapping", "fc1")["_parameters"]["weight"] = wide[:, 1::2]
    ours = import_generator(write(tmp_path / "a.pkl", snapshot(network)))
    assert torch.equal(ours.mapping.layers[1].weight, wide[:, 1::2])


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    network = generator(CHANNELS)
    state_of(network, "mapping")["_buffers"]["w_avg"] = torch.ones(6).half() / 3
    ours = import_generator(write(tmp_path / "a.pkl", snapshot(network)))
    assert ours.mapping.mean_code.dtype == torch.float32


def test_layers_without_noise(tmp_path: Path) -> None:
    network = generator((4,))
    layer = state_of(network, "synthesis", "b4", "conv1")
    layer["use_noise"] = False
    del layer["_parameters"]["noise_strength"], layer["_buffers"]["noise_const"]
    ours = import_generator(write(tmp_path / "a.pkl", snapshot(network)))
    codes = torch.randn(1, 1, 6)
    assert torch.equal(ours(codes, "const"), ours(codes, "none"))


def test_converts_to_a_file_of_our_own(tmp_path: Path) -> None:
    source = write(tmp_path / "network-snapshot-000000.pkl", snapshot(generator(CHANNELS)))
    convert_stylegan2(source, tmp_path / "out" / "generator.safetensors")
    again = read_generator(tmp_path / "out" / "generator.safetensors")
    codes = torch.randn(2, 1, 6)
    assert torch.equal(again(codes), import_generator(source)(codes))
    with pytest.raises(UserError, match=r"\*\.safetensors"):
        convert_stylegan2(source, tmp_path / "generator.pt")


def spoiled(*path: str, **attributes: object) -> object:
    """A generator with some attributes of one of its networks replaced."""
    network = generator(CHANNELS)
    state_of(network, *path).update(attributes)
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (None, "no network G_ema"),
        (spoiled("synthesis", "b8", architecture="resnet"), "G_ema.synthesis.b8.architecture is resnet"),
        (spoiled("synthesis", "b8", "conv0", activation="relu"), "conv0.activation is relu"),
        (spoiled("synthesis", "b8", "conv0", conv_clamp=3), "conv_clamp"),
        (spoiled("synthesis", "b8", "conv0", _buffers={}), r"no .* G_ema\.synthesis\.b8\.conv0\.resample_filter"),
        (spoiled("mapping", _buffers={}), r"no .* G_ema\.mapping\.w_avg"),
        (spoiled("synthesis", _modules={}), r"no .* G_ema\.synthesis\.b4"),
        (spoiled("synthesis", img_resolution=24), "24, not a power of two"),
        (spoiled("mapping", num_layers=0), r"G_ema\.mapping\.num_layers is 0"),
        (
            spoiled("mapping", "fc0", _parameters={"weight": torch.ones(2, 2), "bias": torch.ones(6)}),
            r"G_ema\.mapping\.fc0\.weight has shape \(2, 2\), expected \(6, 8\)",
        ),
        (module("Discriminator"), r"no .* G_ema\.mapping"),
    ],
)
def test_networks_that_are_not_such_generators_are_refused(tmp_path: Path, network: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_generator(write(tmp_path / "a.pkl", snapshot(network)))


def test_a_filter_of_another_shape_is_refused(tmp_path: Path) -> None:
    network = generator(CHANNELS)
    for kernel in (torch.ones(4, 4) / 16, torch.ones(6, 6) / 36, torch.ones(()), torch.ones(12)):
        state_of(network, "synthesis", "b8", "conv0")["_buffers"]["resample_filter"] = kernel
        with pytest.raises(UserError, match=r"G_ema\.synthesis\.b8\.conv0\.resample_filter"):
            import_generator(write(tmp_path / "a.pkl", snapshot(network)))


@pytest.mark.parametrize(
    "contents", [b"", b"PK\x03\x04 a zip", pickle.dumps([1, 2]), snapshot(generator((4,)))[:3000]]
)
def test_other_and_damaged_files_end_in_one_line(tmp_path: Path, contents: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.pkl.*StyleGAN2-ADA") as refused:
        import_generator(write(tmp_path / "a.pkl", contents))
    assert "\n" not in str(refused.value)


def test_every_truncation_is_a_user_error(tmp_path: Path) -> None:
    contents = snapshot(generator((2,), z=2, w=2, depth=1))
    ends = [position for _, _, position in pickletools.genops(contents)]
    for end in np.random.default_rng(0).choice(ends, 40):
        with pytest.raises(UserError):
            import_generator(write(tmp_path / "a.pkl", contents[:end]))


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pkl"):
        import_generator(tmp_path / "none.pkl")
