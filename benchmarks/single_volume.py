"""Convolutions of one volume on a CPU, by PyTorch's layer and by ours: tables for docs.

    python benchmarks/single_volume.py

One thread, channels last, alternating in one process: the best of several rounds, in processor time. Both are
compared with float64; "equal to" is the largest difference of ours relative to the largest value.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.unet import VolumeConvolution

ROUNDS = 5
SIZES = [(24, 24), (48, 12), (96, 6)]


def milliseconds(run: Callable[[], object]) -> float:
    """Processor time of a call."""
    begin = time.process_time()
    run()
    return 1000 * (time.process_time() - begin)


def with_gradients(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """A call that convolves and computes gradients."""
    return lambda: torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])


def without(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """A call that convolves without gradients."""

    def run() -> None:
        with torch.no_grad():
            layer(x)

    return run


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    print("| channels, cells | pass | PyTorch's | ours | ratio | equal to |\n|---|---|---|---|---|---|")
    for channels, side in SIZES:
        ours = VolumeConvolution(channels, channels, 3, padding=1).to(memory_format=torch.channels_last_3d)
        plain = nn.Conv3d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last_3d)
        plain.load_state_dict(ours.state_dict())
        x = torch.randn(1, channels, side, side, side).contiguous(memory_format=torch.channels_last_3d)
        assert ours.bias is not None
        exact = F.conv3d(x.double(), ours.weight.double(), ours.bias.double(), padding=1)
        error = ((ours(x) - exact).abs().max() / exact.abs().max()).item()
        x.requires_grad_()
        for name, of in (("forward", without), ("forward and backward", with_gradients)):
            runs = [of(layer, x) for layer in (plain, ours)]
            best = [min(times) for times in zip(*(map(milliseconds, runs) for _ in range(ROUNDS)), strict=True)]
            times = f"{best[0]:.1f} ms | {best[1]:.1f} ms | {best[0] / best[1]:.1f}"
            print(f"| {channels}, {side}³ | {name} | {times} | {error:.0e} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
