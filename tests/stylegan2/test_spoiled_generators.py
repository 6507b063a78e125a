"""Whatever stands in an entry of an official generator, it is refused by its name, or makes no difference."""

import io
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_layout import HOOKS, generator, official_modules, snapshot, state_of, weights

from dfm_lightning.checkpoints.pickled_numbers import TORCH_MAGIC
from dfm_lightning.checkpoints.stylegan2 import convert_stylegan2, import_generator
from dfm_lightning.checkpoints.stylegan2_networks import build_from_networks
from dfm_lightning.checkpoints.stylegan2_pickle import PersistentObject, read_networks
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.generator import Generator

SHAPES = {"channels": (4, 3), "z": 5, "w": 6, "labels": 2, "clamp": 256.0, "fp16_from": 8}
VALUES = [
    *(None, True, False, 0, 1, -1, 7, 3.5, -0.5, 1e-300, 1e300, 10**400, -(10**400), math.nan, math.inf),
    *("", "lrelu", "linear", "x" * 1000, b"x", [], [1, 2], (), (3,), {}, {"a": 1}, set()),
    *(torch.zeros(()), torch.zeros(0), torch.ones(3), torch.ones(2, 2), torch.ones(6), torch.zeros(6).long()),
    *(
        torch.ones(1, 1, 1, 1, 1),
        torch.zeros(3, 0),
        torch.full((4,), torch.nan),
        torch.ones(5, dtype=torch.cfloat),
    ),
    PersistentObject("Other", {}),
    PersistentObject("Other", {"_modules": {}, "_parameters": {}, "_buffers": {}}),
]
DICTS = ("_parameters", "_buffers", "_modules")
# What says nothing that is not seen elsewhere.
UNUSED = (*HOOKS, "_non_persistent_buffers_set", "training", "num_ws", "w_avg_beta", "in_channels")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> PersistentObject:
    """A good generator, as it is read from a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("official") / "good.pkl"
    path.write_bytes(snapshot(generator(**SHAPES)))
    return read_networks(path)["G_ema"]


def entries(network: PersistentObject, position: str = "G_ema") -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Every entry of a network and those within it: the way to the dict that it is in, its key, its name."""
    for key in network.state:
        if position == "G_ema" or key not in UNUSED:
            # A dict without entries lacks something that is within the network.
            yield (), key, f"{position}." + ("" if key in DICTS else key)
        for inner in network.state[key] if key in DICTS else ():
            yield (key,), inner, f"{position}.{inner}"
    for name, child in network.state["_modules"].items():
        for way, key, named in entries(child, f"{position}.{name}"):
            yield ("_modules", name, *way), key, named


def dict_at(network: PersistentObject, way: tuple[str, ...]) -> Any:
    place: Any = network.state
    for key in way:
        place = place[key].state if isinstance(place[key], PersistentObject) else place[key]
    return place


def same(ours: Generator, other: Generator) -> bool:
    theirs = other.state_dict()
    return ours.architecture == other.architecture and all(
        torch.equal(tensor, theirs[name]) for name, tensor in ours.state_dict().items()
    )


MISSING = object()


def outcome(network: PersistentObject, place: dict[str, Any], key: str, value: Any) -> Generator | str:
    """The generator, or what it is refused with, when one entry is another."""
    good = place[key]
    if value is MISSING:
        del place[key]
    else:
        place[key] = value
    try:
        return build_from_networks(network)
    except UserError as error:
        return str(error)
    finally:
        place[key] = good


@pytest.mark.slow
def test_every_entry_is_refused_by_name_or_makes_no_difference(official: PersistentObject) -> None:
    good = build_from_networks(official)
    refused, tried = 0, set()
    for way, key, named in list(entries(official)):
        place = dict_at(official, way)
        # Every value once for each kind of layer; elsewhere a few show that the entry is looked at.
        kind = (named.rpartition(".")[0].rstrip("01"), key)
        values = VALUES[:1] if kind in tried or key in UNUSED or key.startswith("_is") else VALUES
        tried.add(kind)
        for value in [MISSING, *values]:
            made = outcome(official, place, key, value)
            if isinstance(made, str):
                refused += 1
                # Sizes and gains may also contradict an entry that is right: then that is named.
                possible = isinstance(value, torch.Tensor) or (type(value) in (int, float) and 0 <= value < 10)
                assert named in made or (possible and "G_ema." in made), (named, value, made)
                assert "\n" not in made
                assert len(made) < 400
            elif not same(made, good):
                # What can be given another value, as a bias of the right length.
                assert isinstance(value, torch.Tensor) or key in ("use_fp16", "use_noise", "conv0"), (named, value)
                assert all(tensor.isfinite().all() for tensor in made.state_dict().values())
    assert refused > 800


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_gives_the_same(tmp_path: Path, official: PersistentObject, protocol: int) -> None:
    torch.manual_seed(0)
    network = generator(**SHAPES)
    theirs = weights(network)
    extra = {"array": np.eye(3), "bytes": b"\xff", "empty": b"", "text": "é\n", "big": 2**70, "yes": [True, 0.1]}
    path = tmp_path / "a.pkl"
    path.write_bytes(snapshot(network, protocol, **extra))
    ours = import_generator(path)
    assert same(ours, build_from_networks(official))
    assert torch.equal(
        ours.state_dict()["synthesis.blocks.1.convolutions.0.weight"].double(), theirs["synthesis.b8.conv0.weight"]
    )
    read = read_networks(path)
    assert {name: read[name] for name in extra if name != "array"} == {
        name: value for name, value in extra.items() if name != "array"
    }
    assert np.array_equal(read["array"].array, np.eye(3))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", [">f8", "<f4", ">f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_byte_order_and_layout(tmp_path: Path, protocol: int, kind: str, order: Any) -> None:
    network = generator((4,))
    expected = np.random.default_rng(0).standard_normal((6, 8)).astype(kind)
    state_of(network, "mapping", "fc0")["_parameters"]["weight"] = np.array(expected, order=order)
    path = tmp_path / "a.pkl"
    path.write_bytes(snapshot(network, protocol))
    found = import_generator(path).mapping.layers[0].weight
    assert np.array_equal(found.detach().numpy(), expected.astype(np.float32))


def test_weights_that_float32_cannot_hold_are_refused(tmp_path: Path) -> None:
    network = generator((4,))
    state_of(network, "mapping")["_buffers"]["w_avg"] = torch.full((6,), 1e200, dtype=torch.float64)
    path = tmp_path / "a.pkl"
    path.write_bytes(snapshot(network))
    with pytest.raises(UserError, match=r"G_ema\.mapping\.w_avg"):
        convert_stylegan2(path, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_channels_are_refused(tmp_path: Path, channels: int) -> None:
    network = generator((4, 3))
    for part in (state_of(network), state_of(network, "synthesis")):
        part["img_channels"] = channels
    for block in ("b4", "b8"):
        parameters = state_of(network, "synthesis", block, "torgb")["_parameters"]
        parameters["weight"] = parameters["weight"][:1].repeat(channels, 1, 1, 1)
        parameters["bias"] = torch.zeros(channels)
    path = tmp_path / "a.pkl"
    path.write_bytes(snapshot(network))
    with pytest.raises(UserError, match=rf"G_ema\.img_channels.*\b{channels}\b"):
        import_generator(path)


# --- sizes that the file does not hold -----------------------------------------------------------------------


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def storage_of(count: int, stored: int) -> bytes:
    """A storage that declares `count` numbers, and says before its eight numbers that there are `stored`."""
    stream = io.BytesIO()
    torch.save(torch.ones(8)._typed_storage(), stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    declared = pickle.BININT1 + bytes([8]) + pickle.NONE
    assert data.count(declared) == 1
    data = data.replace(declared, b"\x8a\x08" + count.to_bytes(8, "little", signed=True) + pickle.NONE)
    tail = 8 * 4 + 8
    return data[:-tail] + stored.to_bytes(8, "little", signed=True) + data[-8 * 4 :]


def with_storage(data: bytes) -> bytes:
    return snapshot(generator((2,)), extra=Call(torch.storage._load_from_bytes, data))


@pytest.mark.parametrize(("count", "stored"), [(2**40, 2**40), (2**62, 2**62), (8, 2**40), (2**40, 8), (-1, -1)])
def test_storages_that_declare_more_than_they_hold(tmp_path: Path, count: int, stored: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(
        snapshot(generator((2,)), extra=Call(torch.storage._load_from_bytes, storage_of(count, stored)))
    )
    with pytest.raises(UserError, match="damaged"):
        import_generator(path)


def test_the_storages_of_these_tests_are_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(with_storage(storage_of(8, 8)))
    assert torch.equal(read_networks(path)["extra"], torch.ones(8))


def test_networks_without_noise_cannot_claim_any_resolution(tmp_path: Path) -> None:
    """Noise of zeros is made for them, of the size that their blocks have and not of one that they name."""
    network = generator((4,))
    layer = state_of(network, "synthesis", "b4", "conv1")
    layer.update(use_noise=False, resolution=2**20)
    path = tmp_path / "a.pkl"
    path.write_bytes(snapshot(network))
    with pytest.raises(UserError, match=r"b4\.conv1\.resolution.*1048576"):
        import_generator(path)


# --- other files ---------------------------------------------------------------------------------------------


class Network:
    """A network of the TensorFlow code."""

    def __getstate__(self) -> dict[str, Any]:
        return {"version": 3, "name": "G"}


Network.__module__ = "dnnlib.tflib.network"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_of_tensorflow_says_which_program_converts_it(tmp_path: Path, protocol: int) -> None:
    import sys
    import types

    path = tmp_path / "a.pkl"
    with official_modules():
        for name in ("dnnlib.tflib", "dnnlib.tflib.network"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["dnnlib.tflib.network"].Network = Network  # type: ignore[attr-defined]  # made up
        try:
            path.write_bytes(pickle.dumps((Network(), Network(), Network()), protocol))
        finally:
            del sys.modules["dnnlib.tflib"], sys.modules["dnnlib.tflib.network"]
    with pytest.raises(UserError, match=r"TensorFlow code.*legacy\.py") as refused:
        import_generator(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_of_torch_says_which_file_to_get(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save({"g_ema": {"weight": torch.ones(2)}}, path, _use_new_zipfile_serialization=archive)
    assert archive or path.read_bytes().startswith(TORCH_MAGIC)
    with pytest.raises(UserError, match="rosinality") as refused:
        import_generator(path)
    assert "\n" not in str(refused.value)
