"""Imports official StyleGAN2-ADA pickles (network-snapshot-*.pkl) without running anything from them."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfm_lightning.checkpoints.inert_pickle import printable
from dfm_lightning.checkpoints.stylegan2_pickle import PersistentObject, read_networks
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.layers import UPSAMPLING_FILTER
from dfm_lightning.networks.stylegan2.storage import build_generator, write_generator


def convert_stylegan2(source: Path, destination: Path) -> None:
    """Convert an official StyleGAN2-ADA pickle to a generator file of this project.

    Takes the averaged generator (`G_ema`) from a `network-snapshot-*.pkl` or a released model. Nothing in the
    pickle is run; one that holds anything but networks and plain values is refused.

    Args:
        source: the official pickle.
        destination: the file to write; its name ends in .safetensors.
    """
    if destination.suffix != ".safetensors":
        raise UserError(f"the file to write is called *.safetensors, got {destination}")
    generator = import_generator(source)
    write_generator(generator, destination)
    shape = generator.architecture
    size = f"{shape.resolution}×{shape.resolution}"
    print(f"{destination}: a generator of {size} pixels, codes of {shape.w_dim} numbers")


def import_generator(path: Path) -> Generator:
    """The averaged generator of an official pickle, in float32.

    Raises:
        UserError: the file is not such a pickle; the message names what it holds instead.
    """
    try:
        return _build(_Part("G_ema", _averaged_generator(read_networks(path))))
    except UserError as error:
        raise UserError(f"{path} cannot be imported as a StyleGAN2-ADA pickle: {error}") from error


def _averaged_generator(contents: Any) -> PersistentObject:
    network = contents.get("G_ema") if isinstance(contents, dict) else None
    if not isinstance(network, PersistentObject):
        raise UserError("it holds no network G_ema")
    return network


def _build(root: "_Part") -> Generator:
    """Our generator with the shape and the weights of a described one.

    The shape is read off the weights and the attributes of the layers, so it does not matter which of the
    constructor's arguments the file mentions.
    """
    try:
        return build_generator(_architecture(root), _weights(root)).eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"it holds weights that do not fit together ({printable(str(error))})") from error


class _Part:
    """A network within the file, with its position for messages."""

    def __init__(self, position: str, network: PersistentObject) -> None:
        self.position = position
        self.network = network

    def child(self, name: str) -> "_Part":
        """The network of that name within this one."""
        children = self.attribute("_modules", dict)
        if not isinstance(children.get(name), PersistentObject):
            raise UserError(f"it holds no {self.position}.{name}")
        return _Part(f"{self.position}.{name}", children[name])

    def has(self, name: str) -> bool:
        """Whether there is a network of that name within this one."""
        return name in self.attribute("_modules", dict)

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer, in float32."""
        value = {**self.attribute("_buffers", dict), **self.attribute("_parameters", dict)}.get(name)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UserError(f"it holds no tensor {self.position}.{name}")
        return value.float().contiguous()

    def attribute(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """A plain attribute of the network."""
        value = self.network.state.get(name)
        if not isinstance(value, kind):
            raise UserError(f"it holds no {self.position}.{name}")
        return value

    def expect(self, name: str, expected: Any) -> None:
        """Refuse a network that computes something else than ours."""
        value = self.network.state.get(name, expected)
        if not isinstance(value, type(expected)) or value != expected:
            found = value if isinstance(value, (str, int, float)) else type(value).__name__
            raise UserError(f"its {self.position}.{name} is {printable(str(found))}, supported is {expected}")


def _architecture(root: _Part) -> Architecture:
    mapping, synthesis = root.child("mapping"), root.child("synthesis")
    layers = _mapping_layers(mapping)
    blocks = _blocks(synthesis)
    labels = root.attribute("c_dim", int)
    half = [block.attribute("resolution", int) for block in blocks if block.network.state.get("use_fp16")]
    return Architecture(
        z_dim=root.attribute("z_dim", int),
        w_dim=root.attribute("w_dim", int),
        channels=tuple(len(block.child("conv1").tensor("bias")) for block in blocks),
        mapping_features=tuple(len(layer.tensor("bias")) for layer in layers),
        labels=labels,
        label_features=len(mapping.child("embed").tensor("bias")) if labels > 0 else 0,
        mapping_lr_multiplier=float(layers[0].attribute("bias_gain", (int, float))),
        image_channels=root.attribute("img_channels", int),
        conv_clamp=_conv_clamp(blocks),
        **({"half_precision_from": min(half)} if half else {}),
    )


def _mapping_layers(mapping: _Part) -> list[_Part]:
    layers = [mapping.child(f"fc{index}") for index in range(mapping.attribute("num_layers", int))]
    if not layers:
        raise UserError("it holds a mapping network without layers")
    for layer in layers:
        layer.expect("activation", "lrelu")
    return layers


def _blocks(synthesis: _Part) -> list[_Part]:
    resolution = synthesis.attribute("img_resolution", int)
    if resolution < 4 or resolution & (resolution - 1):
        raise UserError(f"it holds a {synthesis.position} of resolution {resolution}, not a power of two")
    blocks = [synthesis.child(f"b{2**k}") for k in range(2, resolution.bit_length())]
    for block in blocks:
        block.expect("architecture", "skip")
        for layer in _convolutions(block):
            layer.expect("activation", "lrelu")
            if not torch.allclose(layer.tensor("resample_filter") * 4, torch.tensor(UPSAMPLING_FILTER)):
                raise UserError(f"it holds {layer.position} with another filter than [1, 3, 3, 1]")
    return blocks


def _convolutions(block: _Part) -> list[_Part]:
    return [block.child(name) for name in ("conv0", "conv1") if block.has(name)]


def _conv_clamp(blocks: list[_Part]) -> float:
    layers = [layer for block in blocks for layer in (*_convolutions(block), block.child("torgb"))]
    clamps = {layer.network.state.get("conv_clamp") for layer in layers}
    if len(clamps) != 1:
        raise UserError(f"it holds layers of different conv_clamp: {clamps}")
    clamp = clamps.pop()
    return math.inf if clamp is None else float(clamp)


def _weights(root: _Part) -> dict[str, Tensor]:
    """The weights under the names they have in our generator."""
    mapping, synthesis = root.child("mapping"), root.child("synthesis")
    weights = {
        "mapping.mean_code": mapping.tensor("w_avg"),
        "synthesis.constant": synthesis.child("b4").tensor("const"),
    }
    linear = {f"mapping.layers.{index}": layer for index, layer in enumerate(_mapping_layers(mapping))}
    if root.attribute("c_dim", int) > 0:
        linear["mapping.label_embedding"] = mapping.child("embed")
    for index, block in enumerate(_blocks(synthesis)):
        ours = f"synthesis.blocks.{index}"
        for position, layer in enumerate(_convolutions(block)):
            linear[f"{ours}.convolutions.{position}.style"] = layer.child("affine")
            weights |= _convolution_weights(f"{ours}.convolutions.{position}", layer)
        colours = block.child("torgb")
        linear[f"{ours}.to_rgb.style"] = colours.child("affine")
        weights[f"{ours}.to_rgb.weight"] = colours.tensor("weight").flatten(1)
        weights[f"{ours}.to_rgb.bias"] = colours.tensor("bias")
    for name, layer in linear.items():
        weights |= {f"{name}.weight": layer.tensor("weight"), f"{name}.bias": layer.tensor("bias")}
    return weights


def _convolution_weights(name: str, layer: _Part) -> dict[str, Tensor]:
    size = layer.attribute("resolution", int)
    noisy = layer.attribute("use_noise", bool)
    return {
        f"{name}.weight": layer.tensor("weight"),
        f"{name}.bias": layer.tensor("bias"),
        f"{name}.noise_strength": layer.tensor("noise_strength") if noisy else torch.zeros(()),
        f"{name}.noise": layer.tensor("noise_const") if noisy else torch.zeros(size, size),
    }
