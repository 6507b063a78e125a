"""The pictures that tests leave for reports hold what was sampled, and say what is where."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dfm_lightning.callbacks.output import images_to_uint8
from dfm_lightning.callbacks.output.layers import Layer, Layers, read_layers, write_layers
from dfm_lightning.callbacks.scene_layers import (
    are_images,
    evenly,
    layers_of_images,
    layers_of_patch,
    layers_of_scene,
)
from dfm_lightning.errors import UserError
from dfm_lightning.tasks import EvaluatedPatch, EvaluatedScene

SIZE = 8


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, SIZE, SIZE, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1


def test_layers_come_back_from_their_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, size, dtype=np.uint8) for size in ((3, 4, 5, 3), (1, 9, 7, 3), (2, 4, 5, 3))]
    layers = [Layer("true", pictures[0]), Layer("full", pictures[1]), Layer("sample", pictures[2], 2)]
    write_layers(tmp_path / "x.png", Layers(["a", "b", "c"], layers))
    read = read_layers(tmp_path / "x.png")
    assert read.views == ["a", "b", "c"]
    assert [(layer.name, layer.sample) for layer in read.layers] == [("true", None), ("full", None), ("sample", 2)]
    for layer, expected in zip(read.layers, pictures, strict=True):
        np.testing.assert_array_equal(layer.images, expected)


def test_a_damaged_file_of_layers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_layers(path, Layers(["a"], [Layer("true", np.zeros((1, 4, 4, 3), np.uint8))]))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"x\.png"):
        read_layers(path)


def test_layers_of_a_scene() -> None:
    roles = ["context", "target", "novel", "novel"]
    truth, samples, estimate = noise(4, 3), noise(3, 4, 3), noise(4, 3)
    scene = EvaluatedScene(
        "a", roles, truth, samples, noise(3, 4, 1) + 3, estimate, noise(4, 1) + 3,
        torch.zeros(4, 1, SIZE, SIZE, dtype=torch.bool), {},
    )  # fmt: skip
    shown = layers_of_scene(scene)
    assert shown.views == ["context", "target", "novel 1", "novel 2"]
    by_name = {(layer.name, layer.sample): layer.images for layer in shown.layers}
    np.testing.assert_array_equal(by_name["context", None], images_to_uint8(truth[:1]))
    np.testing.assert_array_equal(by_name["true", None], images_to_uint8(truth))
    np.testing.assert_array_equal(by_name["sample", 3], images_to_uint8(samples[2]))
    assert by_name["depth", 3].shape == by_name["spread", None].shape == (4, SIZE, SIZE, 3)


def test_the_spread_of_equal_samples_is_dark_and_of_one_sample_is_none() -> None:
    image = noise(1, 3)
    same = layers_of_images({"sample": image.expand(3, -1, -1, -1, -1)})
    (heat,) = (layer.images for layer in same.layers if layer.name == "spread")
    assert heat.max() <= 4, "the colour map's darkest colour"
    apart = layers_of_images({"sample": torch.stack([image, -image])})
    (heat,) = (layer.images for layer in apart.layers if layer.name == "spread")
    assert heat.max() > 200
    assert [layer.name for layer in layers_of_images({"sample": image[None]}).layers] == ["sample"]


def test_a_patch_is_shown_without_what_is_hidden() -> None:
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :4] = 1
    truth = noise(3)
    scene = EvaluatedPatch(
        "a", mask, truth, noise(2, 3), noise(3), torch.zeros(4), torch.zeros(2, 1, 4), torch.zeros(4)
    )
    patch = layers_of_patch(scene).layers[0].images[0]
    np.testing.assert_array_equal(patch[:4], images_to_uint8(truth[None])[0, :4])
    assert len(np.unique(patch[4:])) == 1


def test_what_is_no_picture_is_none() -> None:
    assert are_images(noise(2, 3))
    assert are_images(noise(2, 2, 1))
    assert not are_images(torch.zeros(2, 5, SIZE, SIZE))
    assert not are_images(torch.zeros(2, 7))


def test_evenly_keeps_both_ends() -> None:
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(100, 4) == [0, 33, 66, 99]
