"""Time of the StyleGAN2 generator against one that makes a weight for each image, as the paper writes it down.

The plain version modulates and demodulates the weights for every element of the batch, convolves in groups, and
filters by inserting zeros; ours scales activations instead, with one convolution for the whole batch. Both have
the same weights and are timed in turn in the same process, so that the ratio holds on a busy machine too; the
best of all rounds counts.

    python benchmarks/stylegan2.py [--device cuda] [--threads 1] [--rounds 5]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.networks.stylegan2.architecture import Architecture, channels_by_resolution
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.layers import EqualizedLinear
from dfm_lightning.networks.stylegan2.synthesis import StyledConvolution, ToRGB

# What is timed: the demo's generator and FFHQ's at 256 pixels ("paper256"), with the batch they are trained with.
DEMO = Architecture(12, 32, (64, 64, 32, 32), (128, 128, 128, 32))
PAPER = Architecture(512, 512, channels_by_resolution(256, 16384, 512), (512,) * 8, conv_clamp=256)
CASES = [("demo, 32 px", DEMO, 16), ("FFHQ, 256 px", PAPER, 4)]


def plain_filter(x: Tensor, up: int, before: int, after: int) -> Tensor:
    """Insert zeros, pad, filter by [1, 3, 3, 1] ⊗ [1, 3, 3, 1] of sum 4."""
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, height, up, width, up)
    spread[:, :, :, 0, :, 0] = x
    padded = F.pad(spread.view(batch, channels, height * up, width * up), [before, after, before, after])
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 16
    return F.conv2d(padded, kernel.repeat(channels, 1, 1, 1), groups=channels)


def plain_convolution(x: Tensor, weight: Tensor, upsample: bool) -> Tensor:
    """Each element of the batch with its own weight [b o i k k]."""
    batch, outputs, inputs, size, _ = weight.shape
    joined = x.reshape(1, batch * inputs, *x.shape[2:])
    if upsample:
        swapped = weight.transpose(1, 2).reshape(batch * inputs, outputs, size, size)
        result = F.conv_transpose2d(joined, swapped, stride=2, groups=batch)
    else:
        result = F.conv2d(joined, weight.reshape(-1, inputs, size, size), padding=size // 2, groups=batch)
    return result.view(batch, outputs, *result.shape[2:])


def plain_style(layer: EqualizedLinear, code: Tensor) -> Tensor:
    """The style of each element."""
    return code @ (layer.weight / layer.weight.shape[1] ** 0.5).T + layer.bias


def plain_layer(layer: StyledConvolution, x: Tensor, code: Tensor) -> Tensor:
    """Modulate, demodulate, convolve, add noise and bias, leaky ReLU, clamp."""
    weight = layer.weight * plain_style(layer.style, code)[:, None, :, None, None]
    weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = plain_convolution(x, weight, layer.upsample)
    x = plain_filter(x, 1, 1, 1) if layer.upsample else x
    x = x + layer.noise * layer.noise_strength + layer.bias[:, None, None]
    return (F.leaky_relu(x, 0.2) * 2**0.5).clamp(-layer.clamp, layer.clamp)


def plain_colours(layer: ToRGB, x: Tensor, code: Tensor) -> Tensor:
    """The colours of a block."""
    style = plain_style(layer.style, code) * layer.style_gain
    weight = (layer.weight * style[:, None])[..., None, None]
    return (plain_convolution(x, weight, False) + layer.bias[:, None, None]).clamp(-layer.clamp, layer.clamp)


def plain_generator(network: Generator, codes: Tensor) -> Tensor:
    """The image of one code for each element, with the network's weights."""
    code = codes[:, 0]
    x = network.synthesis.constant.repeat(len(code), 1, 1, 1)
    image = torch.zeros(())
    for index, block in enumerate(network.synthesis.blocks):
        for layer in block.convolutions:
            x = plain_layer(layer, x, code)
        image = (plain_filter(image, 2, 2, 1) if index > 0 else 0) + plain_colours(block.to_rgb, x, code)
    return image


def our_generator(network: Generator, codes: Tensor) -> Tensor:
    """The project's generator."""
    return network(codes)


def half_generator(network: Generator, codes: Tensor) -> Tensor:
    """The project's generator under autocast to bfloat16."""
    with torch.autocast(codes.device.type, dtype=torch.bfloat16):
        return network(codes)


def seconds(
    run: Callable[[Generator, Tensor], Tensor], network: Generator, codes: Tensor, backward: bool
) -> float:
    """Duration of making the images, and of the gradient with respect to the codes."""
    wait = torch.cuda.synchronize if codes.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    if backward:
        run(network, codes).sum().backward()
    else:
        with torch.no_grad():
            run(network, codes)
    wait()
    return time.perf_counter() - start


def main() -> None:
    """Print one row for each generator and pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    versions = (plain_generator, our_generator, half_generator)
    print("| generator | batch | pass | plain | ours | ratio | ours, bf16 | equal to |")
    print("|---|---|---|---|---|---|---|---|")
    for name, architecture, batch in CASES:
        torch.manual_seed(0)
        network = Generator(architecture).requires_grad_(False).to(args.device)
        codes = torch.randn(batch, 1, architecture.w_dim, device=args.device, requires_grad=True)
        with torch.no_grad():
            plain, ours = plain_generator(network, codes), our_generator(network, codes)
        difference = float((plain - ours).abs().max() / plain.abs().max())
        for backward in (False, True):
            times: list[list[float]] = [[] for _ in versions]
            for _ in range(args.rounds):
                for run, durations in zip(versions, times, strict=True):
                    durations.append(seconds(run, network, codes, backward))
            best = [1e3 * min(durations) / batch for durations in times]
            cells = [name, str(batch), "forward and backward" if backward else "forward"]
            cells += [f"{best[0]:.1f} ms", f"{best[1]:.1f} ms", f"{best[0] / best[1]:.2f}", f"{best[2]:.1f} ms"]
            print("| " + " | ".join([*cells, f"{difference:.0e}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
