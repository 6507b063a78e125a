"""Short names for contents, to notice that something is not what it was."""

import hashlib
from typing import Any

import torch
from torch import nn

from dfm_lightning.types import named_tensors

# Enough of each weight to tell two models apart, few enough to read hundreds of millions in no time.
NUMBERS_OF_EACH_WEIGHT = 64


def fingerprint(tree: Any) -> str:
    """A name for all tensors in a tree: their places, shapes and contents."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(tree, ""):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_fingerprint(module: nn.Module) -> str:
    """A name for the weights of a model, from some numbers of each of them."""
    some = {}
    for name, tensor in module.state_dict().items():
        flat = tensor.detach().flatten()
        some[name] = flat[:: max(1, len(flat) // NUMBERS_OF_EACH_WEIGHT)]
    return fingerprint(some)
