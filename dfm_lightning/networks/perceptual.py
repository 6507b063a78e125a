"""The network behind LPIPS (Zhang et al. 2018); its trunk's weights are read from a file, never downloaded."""

import warnings
from pathlib import Path
from typing import Literal

import lpips
import torch
from torch import nn

from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.weight_files import find_weights, not_the_weights, read_weights

Trunk = Literal["vgg", "alex"]

TRUNK_FILES: dict[Trunk, str] = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
URL = "https://download.pytorch.org/models/"
# Four poolings leave nothing of smaller images.
SMALLEST_IMAGE = 16


def trunk_path(trunk: Trunk, weights: str | Path | None = None) -> Path:
    """Find the trunk's weights: the given file, else the one in torch's cache. `UserError` if there is none."""
    name = TRUNK_FILES[trunk]
    return find_weights(name, f"{URL}{name}", "LPIPS needs torchvision's weights of its trunk", weights)


def load_lpips(trunk: Trunk, weights: str | Path | None = None) -> Frozen:
    """Load LPIPS, frozen: (images in [−1, 1], images in [−1, 1]) → distances [n, 1, 1, 1]."""
    path = trunk_path(trunk, weights)
    # The trunk is first initialised with random weights; this must not advance training's random numbers.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # lpips still uses torchvision's old interface.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    _load_trunk(network.net, path)
    return Frozen(network)


def _load_trunk(trunk: nn.Module, path: Path) -> None:
    """Copy torchvision's weights. The trunk keeps its layers in slices, under torchvision's layer numbers."""
    content, url = "torchvision's weights of the LPIPS trunk", URL
    given = read_weights(path, content, url)
    try:
        wanted = {name: f"features.{name.split('.', 1)[1]}" for name in trunk.state_dict()}
        trunk.load_state_dict({name: given[source] for name, source in wanted.items()})
    except (KeyError, RuntimeError) as error:
        raise not_the_weights(path, content, url, error) from error
