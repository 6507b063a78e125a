"""Build our generator from the networks of an official StyleGAN2-ADA pickle, read as data."""

import math
from collections.abc import Iterator
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from dfm_lightning.checkpoints.inert_pickle import printable
from dfm_lightning.checkpoints.pickled_numbers import NumberArray
from dfm_lightning.checkpoints.stylegan2_pickle import PersistentObject
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.architecture import (
    COLOURS,
    MOST_LAYERS,
    MOST_PIXELS,
    MOST_WIDE,
    Architecture,
)
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.layers import ACTIVATION_GAIN, UPSAMPLING_FILTER
from dfm_lightning.networks.stylegan2.storage import build_generator, expected_shapes


def build_from_networks(network: PersistentObject) -> Generator:
    """Build our generator with the shape and the weights of a described one.

    The shape follows from the weights and the attributes of the layers, whichever constructor arguments the file
    mentions. Every entry that is used is checked.

    Raises:
        UserError: an entry is missing, or is not what the network needs; the message names it.
    """
    root = _Part("G_ema", network)
    architecture = _architecture(root)
    shapes = expected_shapes(architecture)
    weights = {}
    for name, (part, entry, shape) in _sources(root, shapes).items():
        weights[name] = part.tensor(entry, shape).reshape(shapes[name])
    weights |= {name: torch.zeros(shapes[name]) for name in _left_out(root)}
    return build_generator(architecture, weights).eval()


class _Part:
    """A network within the file, with its position for messages."""

    def __init__(self, position: str, network: PersistentObject) -> None:
        self.position = position
        self.network = network

    def child(self, name: str) -> "_Part":
        """Return the network of that name within this one."""
        children = self._dict("_modules")
        if not isinstance(children.get(name), PersistentObject):
            raise UserError(f"it holds no network {self.position}.{name}")
        return _Part(f"{self.position}.{name}", children[name])

    def hold_only(self, *names: str) -> None:
        """Refuse networks within this one that ours lacks."""
        for name in self._dict("_modules"):
            if name not in names:
                raise UserError(f"it holds {self.position}.{printable(str(name))}, which such generators lack")

    def _dict(self, name: str) -> dict[Any, Any]:
        value = self.network.state.get(name)
        if not isinstance(value, dict):
            raise UserError(f"it holds no {self.position}.{name}")
        return value

    # --- tensors -----------------------------------------------------------------------------------------------

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a parameter or buffer of a shape, in float32."""
        value = self._numbers(name)
        if value.shape != shape:
            raise UserError(f"its {self.position}.{name} has shape {tuple(value.shape)}, expected {shape}")
        made = value.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if not made.isfinite().all():
            raise UserError(f"its {self.position}.{name} holds numbers that are not finite in float32")
        return made

    def length(self, name: str) -> int:
        """Return the length of a vector."""
        value = self._numbers(name)
        if value.dim() != 1 or not 1 <= len(value) <= MOST_WIDE:
            raise UserError(f"its {self.position}.{name} has shape {tuple(value.shape)}, expected a vector")
        return len(value)

    def _numbers(self, name: str) -> Tensor:
        value = {**self._dict("_buffers"), **self._dict("_parameters")}.get(name)
        if isinstance(value, NumberArray) and value.array.dtype.kind == "f":
            array = value.array
            value = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UserError(f"it holds no tensor of real numbers {self.position}.{name}")
        return value

    # --- plain attributes --------------------------------------------------------------------------------------

    def size(self, name: str, least: int = 1, most: int = MOST_WIDE) -> int:
        """Return a whole number."""
        value = self.network.state.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._refused(name, value, f"a whole number from {least} to {most}")
        return value

    def positive(self, name: str) -> float:
        """Return a positive number within the range of float32."""
        value = self.network.state.get(name)
        if not _is_number(value) or not 1e-30 < value < 1e30:
            raise self._refused(name, value, "a positive number")
        return float(value)

    def clamp(self, name: str = "conv_clamp") -> float:
        """Return a bound; infinite for None, which stands for no bound."""
        return math.inf if self.network.state.get(name) is None else self.positive(name)

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.network.state.get(name, default)
        if not isinstance(value, bool):
            raise self._refused(name, value, "True or False")
        return value

    def expect(self, name: str, expected: Any) -> None:
        """Refuse a network that computes something other than ours. (Entries not mentioned have their usual
        values.)
        """
        value = self.network.state.get(name, expected)
        if _is_number(expected):
            # A relative tolerance: gains are computed.
            if not _is_number(value) or not abs(value - expected) <= 1e-5 * abs(expected):
                raise self._refused(name, value, f"{expected:g}")
        elif not isinstance(value, type(expected)) or value != expected:
            raise self._refused(name, value, str(expected))

    def _refused(self, name: str, value: Any, expected: str) -> UserError:
        if isinstance(value, int) and value.bit_length() > 64:
            found = "a number of too many digits"
        else:
            found = str(value) if isinstance(value, (str, int, float)) else type(value).__name__
        return UserError(f"its {self.position}.{name} is {printable(found)}, but only {expected} is supported")


def _is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a number that fits into a float."""
    return isinstance(value, float) or (type(value) is int and value.bit_length() <= 64)


# --- the shape -------------------------------------------------------------------------------------------------


def _architecture(root: _Part) -> Architecture:
    mapping, synthesis = root.child("mapping"), root.child("synthesis")
    blocks = _blocks(synthesis)
    root.expect("img_channels", COLOURS)
    synthesis.expect("img_channels", COLOURS)
    labels, w_dim = root.size("c_dim", least=0), root.size("w_dim")
    layers = _mapping_layers(mapping)
    half = [4 * 2**index for index, block in enumerate(blocks) if block.flag("use_fp16", False)]
    made = Architecture(
        z_dim=root.size("z_dim", least=0 if labels > 0 else 1),
        w_dim=w_dim,
        channels=tuple(block.child("conv1").length("bias") for block in blocks),
        # (The last one's bias is checked against w_dim with all other weights.)
        mapping_features=(*(layer.length("bias") for layer in layers[:-1]), w_dim),
        labels=labels,
        label_features=mapping.child("embed").length("bias") if labels > 0 else 0,
        mapping_lr_multiplier=layers[0].positive("bias_gain"),
        image_channels=COLOURS,
        conv_clamp=_conv_clamp(blocks),
        **({"half_precision_from": min(half)} if half else {}),
    )
    _check_gains(root, made)
    return made


def _mapping_layers(mapping: _Part) -> list[_Part]:
    count = mapping.size("num_layers", most=MOST_LAYERS)
    layers = [mapping.child(f"fc{index}") for index in range(count)]
    mapping.hold_only("embed", *(f"fc{index}" for index in range(count)))
    for layer in layers:
        layer.expect("activation", "lrelu")
    return layers


def _blocks(synthesis: _Part) -> list[_Part]:
    resolution = synthesis.size("img_resolution", least=4, most=MOST_PIXELS)
    if resolution & (resolution - 1):
        raise UserError(f"its {synthesis.position}.img_resolution is {resolution}, not a power of two")
    names = [f"b{2**k}" for k in range(2, resolution.bit_length())]
    synthesis.hold_only(*names)
    blocks = [synthesis.child(name) for name in names]
    for index, block in enumerate(blocks):
        block.expect("architecture", "skip")
        block.expect("resolution", 4 * 2**index)
        for layer in _convolutions(block, index):
            layer.expect("activation", "lrelu")
            kernel = layer.tensor("resample_filter", (4, 4))
            if not torch.allclose(kernel * 4, torch.tensor(UPSAMPLING_FILTER)):
                raise UserError(f"its {layer.position}.resample_filter is another filter than [1, 3, 3, 1]")
    return blocks


def _convolutions(block: _Part, index: int) -> list[_Part]:
    names = ("conv1",) if index == 0 else ("conv0", "conv1")  # the first block begins with a constant
    block.hold_only(*names, "torgb")
    return [block.child(name) for name in names]


def _conv_clamp(blocks: list[_Part]) -> float:
    first = blocks[0].child("conv1")
    clamp = first.clamp()
    for index, block in enumerate(blocks):
        for layer in (*_convolutions(block, index), block.child("torgb")):
            if layer.clamp() != clamp:
                found = f"its {layer.position}.conv_clamp is {layer.clamp():g}"
                raise UserError(f"{found}, its {first.position}.conv_clamp {clamp:g}")
    return clamp


def _check_gains(root: _Part, architecture: Architecture) -> None:
    """Refuse layers whose scale differs from ours, which follows from their sizes."""
    mapping, synthesis = root.child("mapping"), root.child("synthesis")
    multiplier = architecture.mapping_lr_multiplier
    widths = (architecture.mapping_input, *architecture.mapping_features)
    for layer, wide in zip(_mapping_layers(mapping), widths, strict=False):
        layer.expect("bias_gain", multiplier)
        layer.expect("weight_gain", multiplier / math.sqrt(wide))
    if architecture.labels > 0:
        _check_linear(mapping.child("embed"), architecture.labels)
    for index, block in enumerate(_blocks(synthesis)):
        for layer in _convolutions(block, index):
            layer.expect("act_gain", ACTIVATION_GAIN)
            layer.expect("up", 2 if layer.position.endswith("conv0") else 1)
            layer.expect("resolution", 4 * 2**index)
            _check_linear(layer.child("affine"), architecture.w_dim)
        colours = block.child("torgb")
        colours.expect("weight_gain", 1 / math.sqrt(architecture.channels[index]))
        _check_linear(colours.child("affine"), architecture.w_dim)


def _check_linear(layer: _Part, inputs: int) -> None:
    layer.expect("activation", "linear")
    layer.expect("bias_gain", 1)
    layer.expect("weight_gain", 1 / math.sqrt(inputs))


# --- the weights -----------------------------------------------------------------------------------------------

# The place of one of our tensors in the file: network, name, shape.
_Source = tuple[_Part, str, tuple[int, ...]]


def _sources(root: _Part, shapes: dict[str, tuple[int, ...]]) -> dict[str, _Source]:
    """Locate each of our generator's tensors in the file, except omitted noise."""
    found = {name: (part, entry, shapes[name]) for name, part, entry in _places(root)}
    for name, (part, entry, shape) in found.items():
        if name.endswith("to_rgb.weight"):
            found[name] = (part, entry, (*shape, 1, 1))  # a convolution there, a matrix here
    return found


def _places(root: _Part) -> Iterator[tuple[str, _Part, str]]:
    mapping, synthesis = root.child("mapping"), root.child("synthesis")
    yield "mapping.mean_code", mapping, "w_avg"
    yield "synthesis.constant", synthesis.child("b4"), "const"
    linear = {f"mapping.layers.{index}": layer for index, layer in enumerate(_mapping_layers(mapping))}
    if root.size("c_dim", least=0) > 0:
        linear["mapping.label_embedding"] = mapping.child("embed")
    for ours, layer in _styled(synthesis):
        linear[f"{ours}.style"] = layer.child("affine")
        yield f"{ours}.weight", layer, "weight"
        yield f"{ours}.bias", layer, "bias"
        if layer.flag("use_noise", True):
            yield f"{ours}.noise_strength", layer, "noise_strength"
            yield f"{ours}.noise", layer, "noise_const"
    for index, block in enumerate(_blocks(synthesis)):
        ours, colours = f"synthesis.blocks.{index}.to_rgb", block.child("torgb")
        linear[f"{ours}.style"] = colours.child("affine")
        yield f"{ours}.weight", colours, "weight"
        yield f"{ours}.bias", colours, "bias"
    for ours, layer in linear.items():
        yield f"{ours}.weight", layer, "weight"
        yield f"{ours}.bias", layer, "bias"


def _styled(synthesis: _Part) -> Iterator[tuple[str, _Part]]:
    """Map our name of each convolution to the network in the file."""
    for index, block in enumerate(_blocks(synthesis)):
        for position, layer in enumerate(_convolutions(block, index)):
            yield f"synthesis.blocks.{index}.convolutions.{position}", layer


def _left_out(root: _Part) -> Iterator[str]:
    """Return the zero tensors of layers without noise."""
    for ours, layer in _styled(root.child("synthesis")):
        if not layer.flag("use_noise", True):
            yield from (f"{ours}.noise_strength", f"{ours}.noise")
