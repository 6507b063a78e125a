"""Writes pickles with the names, objects and layout of the official StyleGAN2-ADA code, around random weights.

The modules that those names belong to are made up while a pickle is written: pickle looks a function up by name
before it writes the name.
"""

import collections
import contextlib
import io
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HOOKS = (
    "_backward_hooks",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("nothing in a pickle is to be called")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    """A dict by another name."""


EasyDict.__module__ = "dnnlib.util"


@contextlib.contextmanager
def official_modules() -> Iterator[None]:
    """Make the official names known for as long as the block runs."""
    modules = {
        name: types.ModuleType(name)
        for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]  # made up
    modules["dnnlib.util"].EasyDict = EasyDict  # type: ignore[attr-defined]  # made up
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class Persistent:
    """A network of the official code: reduced to one call on a description of it."""

    def __init__(self, class_name: str, state: Any) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the source in a pickle was run')",
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self) -> Any:
        return _reconstruct_persistent_obj, (self.meta,)


def module(
    class_name: str,
    dicts: type = dict,
    parameters: dict[str, Tensor] | None = None,
    buffers: dict[str, Tensor] | None = None,
    children: dict[str, Persistent] | None = None,
    **attributes: Any,
) -> Persistent:
    """A network with the attributes every torch module has."""
    as_parameters = {name: nn.Parameter(tensor) for name, tensor in (parameters or {}).items()}
    state = dicts(training=False)
    state.update({hooks: collections.OrderedDict() for hooks in HOOKS})
    state.update(_non_persistent_buffers_set=set(), _is_full_backward_hook=None)
    state.update(_parameters=dicts(as_parameters), _buffers=dicts(buffers or {}), _modules=dicts(children or {}))
    state.update(attributes)
    return Persistent(class_name, state)


def linear(
    inputs: int, outputs: int, dicts: type, bias: float = 0.0, lr: float = 1.0, kind: str = "linear"
) -> Persistent:
    parameters = {"weight": torch.randn(outputs, inputs) / lr, "bias": bias + torch.randn(outputs) * 0.3 / lr}
    gain = np.float64(lr / np.sqrt(inputs))
    return module(
        "FullyConnectedLayer", dicts, parameters, activation=kind, weight_gain=gain, bias_gain=lr if lr != 1 else 1
    )


def convolution(
    inputs: int, outputs: int, w: int, size: int, up: int, clamp: float | None, dicts: type
) -> Persistent:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 64
    return module(
        "SynthesisLayer",
        dicts,
        {
            "weight": torch.randn(outputs, inputs, 3, 3),
            "noise_strength": torch.rand(()) * 0.5,
            "bias": torch.randn(outputs) * 0.3,
        },
        {"resample_filter": kernel, "noise_const": torch.randn(size, size)},
        {"affine": linear(w, inputs, dicts, bias=1.0)},
        resolution=size,
        up=up,
        use_noise=True,
        activation="lrelu",
        conv_clamp=clamp,
        act_gain=np.float64(np.sqrt(2)),
    )


def colours(inputs: int, w: int, clamp: float | None, dicts: type) -> Persistent:
    parameters = {"weight": torch.randn(3, inputs, 1, 1), "bias": torch.randn(3) * 0.3}
    return module(
        "ToRGBLayer", dicts, parameters, children={"affine": linear(w, inputs, dicts, bias=1.0)}, conv_clamp=clamp
    )


def generator(
    channels: tuple[int, ...],
    z: int = 8,
    w: int = 6,
    labels: int = 0,
    depth: int = 2,
    clamp: float | None = None,
    fp16_from: int = 10**6,
    dicts: type = dict,
) -> Persistent:
    """An official generator with random weights; `channels` at 4×4, 8×8, ..."""
    layers = {}
    if labels:
        layers["embed"] = linear(labels, w, dicts)
    for index in range(depth):
        inputs = (z + (w if labels else 0)) if index == 0 else w
        layers[f"fc{index}"] = linear(inputs, w, dicts, lr=0.01, kind="lrelu")
    mapping = module(
        "MappingNetwork", dicts, buffers={"w_avg": torch.randn(w)}, children=layers,
        z_dim=z, c_dim=labels, w_dim=w, num_ws=2 * len(channels), num_layers=depth, w_avg_beta=0.995,
    )  # fmt: skip
    blocks = {}
    for index, outputs in enumerate(channels):
        size, inputs = 4 * 2**index, channels[index - 1] if index else 0
        children = {"conv1": convolution(outputs, outputs, w, size, 1, clamp, dicts)}
        if index:
            children["conv0"] = convolution(inputs, outputs, w, size, 2, clamp, dicts)
        children["torgb"] = colours(outputs, w, clamp, dicts)
        blocks[f"b{size}"] = module(
            "SynthesisBlock", dicts, {} if index else {"const": torch.randn(outputs, 4, 4)}, children=children,
            in_channels=inputs, resolution=size, architecture="skip", use_fp16=size >= fp16_from,
        )  # fmt: skip
    resolution = 4 * 2 ** (len(channels) - 1)
    synthesis = module(
        "SynthesisNetwork", dicts, children=blocks, w_dim=w, img_resolution=resolution, img_channels=3
    )
    return module(
        "Generator", dicts, children={"synthesis": synthesis, "mapping": mapping},
        z_dim=z, c_dim=labels, w_dim=w, img_resolution=resolution, img_channels=3,
    )  # fmt: skip


def state_of(network: Persistent, *path: str) -> Any:
    """The attributes of a network within a network."""
    for name in path:
        network = network.meta["state"]["_modules"][name]
    return network.meta["state"]


def weights(network: Persistent) -> dict[str, Tensor]:
    """All tensors of a network under their official names, in float64."""
    state = network.meta["state"]
    found = {
        name: tensor.detach().double()
        for kind in ("_parameters", "_buffers")
        for name, tensor in state[kind].items()
    }
    for name, child in state["_modules"].items():
        found.update({f"{name}.{inner}": tensor for inner, tensor in weights(child).items()})
    return found


def snapshot(network: Any, protocol: int = 4, **others: Any) -> bytes:
    """The bytes of a network-snapshot pickle around a generator."""
    contents = {
        "G": None,
        "D": None,
        "G_ema": network,
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset"),
        "augment_pipe": None,
        **others,
    }
    stream = io.BytesIO()
    with official_modules():
        pickle.dump(contents, stream, protocol)
    return stream.getvalue()
