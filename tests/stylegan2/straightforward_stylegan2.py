"""StyleGAN2 written down step by step, from weights under their official names: slow, and simple to check.

Modulated weights are made for each element of the batch and used in a grouped convolution; filters insert zeros,
pad and convolve. Tests compare with it, and the benchmark measures what the project's own generator gains.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def fully_connected(weights: Weights, name: str, x: Tensor, lr: float = 1.0) -> Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return x @ (weight * lr / weight.shape[1] ** 0.5).T + bias * lr


def normalised(x: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).mean(dim=1, keepdim=True) + 1e-8)


def map_codes(weights: Weights, z: Tensor, label: Tensor | None, psi: float, cutoff: int, layers: int) -> Tensor:
    x = normalised(z)
    if label is not None:
        x = torch.cat([x, normalised(fully_connected(weights, "mapping.embed", label))], dim=1)
    depth = sum(name.startswith("mapping.fc") and name.endswith("weight") for name in weights)
    for index in range(depth):
        x = fully_connected(weights, f"mapping.fc{index}", x, lr=0.01)
        x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
    codes = x[:, None].repeat(1, layers, 1)
    mean = weights["mapping.w_avg"]
    codes[:, :cutoff] = mean + psi * (codes[:, :cutoff] - mean)
    return codes


def filtered(x: Tensor, up: int, before: int, after: int) -> Tensor:
    """Insert zeros, pad, filter by [1, 3, 3, 1] ⊗ [1, 3, 3, 1] of sum 4."""
    b, c, h, w = x.shape
    spread = x.new_zeros(b, c, h, up, w, up)
    spread[:, :, :, 0, :, 0] = x
    padded = F.pad(spread.reshape(b, c, h * up, w * up), [before, after, before, after])
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = torch.outer(taps, taps)
    kernel = kernel / kernel.sum() * 4
    return F.conv2d(padded, kernel.repeat(c, 1, 1, 1), groups=c)


def grouped_convolution(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    """Each element of the batch with a weight of its own [b o i k k]."""
    b, o, i, k, _ = weight.shape
    joined = x.reshape(1, b * i, *x.shape[2:])
    if up:
        transposed = weight.transpose(1, 2).reshape(b * i, o, k, k)
        y = F.conv_transpose2d(joined, transposed, stride=2, groups=b)
    else:
        y = F.conv2d(joined, weight.reshape(b * o, i, k, k), padding=k // 2, groups=b)
    return y.reshape(b, o, *y.shape[2:])


def styled_layer(
    weights: Weights, name: str, x: Tensor, code: Tensor, up: bool, noise: bool, clamp: float
) -> Tensor:
    style = fully_connected(weights, f"{name}.affine", code)
    weight = weights[f"{name}.weight"] * style[:, None, :, None, None]
    weight = weight / torch.sqrt((weight**2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = grouped_convolution(x, weight, up)
    if up:
        x = filtered(x, 1, 1, 1)
    if noise:
        x = x + weights[f"{name}.noise_const"] * weights[f"{name}.noise_strength"]
    x = x + weights[f"{name}.bias"][None, :, None, None]
    x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
    return x.clamp(-clamp, clamp)


def to_rgb(weights: Weights, name: str, x: Tensor, code: Tensor, clamp: float) -> Tensor:
    style = fully_connected(weights, f"{name}.affine", code) / x.shape[1] ** 0.5
    weight = weights[f"{name}.weight"] * style[:, None, :, None, None]
    return (grouped_convolution(x, weight, False) + weights[f"{name}.bias"][None, :, None, None]).clamp(
        -clamp, clamp
    )


def synthesise(weights: Weights, codes: Tensor, noise: bool = True, clamp: float = float("inf")) -> Tensor:
    """The image of codes, one a layer."""
    x = weights["synthesis.b4.const"].repeat(len(codes), 1, 1, 1)
    image, layer, resolution = None, 0, 4
    while f"synthesis.b{resolution}.torgb.weight" in weights:
        block = f"synthesis.b{resolution}"
        if resolution > 4:
            x = styled_layer(weights, f"{block}.conv0", x, codes[:, layer], True, noise, clamp)
            layer += 1
        x = styled_layer(weights, f"{block}.conv1", x, codes[:, layer], False, noise, clamp)
        layer += 1
        colours = to_rgb(weights, f"{block}.torgb", x, codes[:, layer], clamp)
        image = colours if image is None else filtered(image, 2, 2, 1) + colours
        resolution *= 2
    assert image is not None
    return image
