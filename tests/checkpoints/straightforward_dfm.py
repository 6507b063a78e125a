"""What the original model computes, written down plainly on tensors of its names; slow, for comparison.

By formulas and conventions alone: pixel corners at 0 and 1, `grid_sample` with aligned corners, no shortcuts.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    n, d = x.shape
    q, k, v = linear(state, f"{name}.qkv", x).view(n, 3, heads, d // heads).permute(1, 2, 0, 3)
    weights = (q @ k.mT / math.sqrt(d // heads)).softmax(dim=-1)
    return linear(state, f"{name}.proj", (weights @ v).permute(1, 0, 2).reshape(n, d))


def normalised(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    return x * (1 + scale) + shift


def condition_vector(state: State, level: float, pose: Tensor) -> Tensor:
    """The time embedding, the constant label, and the absolute pose where the model takes it."""
    angles = level * torch.tensor([10_000 ** (-i / 128) for i in range(128)], dtype=pose.dtype)
    waves = torch.cat([angles.cos(), angles.sin()])
    hidden = F.silu(linear(state, "model.enc.t_embedder.mlp.0", waves))
    vector = linear(state, "model.enc.t_embedder.mlp.2", hidden)
    vector = vector + state["model.enc.y_embedder.embedding_table.weight"][0]
    if "model.enc.pose_mlp.0.weight" not in state:
        return vector
    numbers = pose.flatten()[:12]
    angles = torch.stack([number * 2**k for number in numbers for k in range(6)])
    embedded = torch.cat([angles.sin(), angles.cos(), numbers])
    hidden = linear(state, "model.enc.pose_mlp.0", embedded).relu()
    both = torch.cat([vector, linear(state, "model.enc.pose_mlp.2", hidden)])
    return linear(state, "model.enc.fuse_mlp.2", linear(state, "model.enc.fuse_mlp.0", both).relu())


def encode(state: State, image: Tensor, level: float, pose: Tensor, heads: int) -> Tensor:
    """Features [f, h, w] of one image: of 3 channels, or noisy target and estimate."""
    enc = "model.enc."
    stem = "conv1" if len(image) == 3 else "general_conv1"
    x = F.conv2d(image[None], state[f"{enc}{stem}.weight"], stride=2, padding=3).relu()
    x = F.conv2d(x, state[f"{enc}x_embedder.proj.weight"], state[f"{enc}x_embedder.proj.bias"], stride=2)
    side = x.shape[-1]
    x = x[0].flatten(1).T + state[f"{enc}pos_embed"][0]
    c = F.silu(condition_vector(state, level, pose))
    block = 0
    while f"{enc}blocks.{block}.mlp.fc1.weight" in state:
        name = f"{enc}blocks.{block}."
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(state, f"{name}adaLN_modulation.1", c).chunk(6)
        x = x + gate1 * attention(state, f"{name}attn", normalised(x, shift1, scale1), heads)
        hidden = F.gelu(linear(state, f"{name}mlp.fc1", normalised(x, shift2, scale2)), approximate="tanh")
        x = x + gate2 * linear(state, f"{name}mlp.fc2", hidden)
        block += 1
    shift, scale = linear(state, f"{enc}final_layer.adaLN_modulation.1", c).chunk(2)
    x = linear(state, f"{enc}final_layer.linear", normalised(x, shift, scale))
    channels = x.shape[1] // 4
    coarse = torch.empty(channels, 2 * side, 2 * side).to(x)
    for token, numbers in enumerate(x):
        row, column = divmod(token, side)
        patch = numbers.view(2, 2, channels).permute(2, 0, 1)
        coarse[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch
    large = F.interpolate(coarse[None], scale_factor=2, mode="bilinear")
    skip = F.conv2d(image[None, :3], state[f"{enc}cnn_skip.weight"], state[f"{enc}cnn_skip.bias"], padding=3)
    joined = torch.cat([large, skip], dim=1)
    return F.conv2d(joined, state[f"{enc}cnn_refine.weight"], state[f"{enc}cnn_refine.bias"], padding=1)[0]


def encoded_position(point: Tensor) -> Tensor:
    parts = [point]
    for k in range(6):
        parts += [(1.5 * 2**k * point).sin(), (1.5 * 2**k * point + math.pi / 2).sin()]
    return torch.cat(parts, dim=-1)


def query(
    state: State, mlp: str, points: Tensor, maps: Tensor, poses: Tensor, intrinsics: Tensor, levels: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, density and features at points [n, 3] of the world, from views with maps [v, f, h, w]."""
    width = state[f"{mlp}lin_in.bias"].shape[0]
    views, times = [], []
    for features, pose, level in zip(maps, poses, levels, strict=True):
        local = (torch.linalg.inv(pose) @ F.pad(points, (0, 1), value=1.0).T).T[:, :3]
        image = local @ intrinsics.T
        position = image[:, :2] / (image[:, 2:] + 1e-9)
        read = F.grid_sample(
            features[None], position[None, :, None] * 2 - 1, padding_mode="border", align_corners=True
        )
        views.append(
            linear(state, f"{mlp}lin_in", torch.cat([encoded_position(local), read[0, :, :, 0].T], dim=1))
        )
        half = width // 2
        angles = level * torch.tensor([10_000 ** (-i / (half - 1)) for i in range(half)], dtype=points.dtype)
        waves = torch.cat([angles.sin(), angles.cos()])
        hidden = F.gelu(linear(state, f"{mlp}time_mlp.1", waves))
        times.append(F.silu(linear(state, f"{mlp}time_mlp.3", hidden)))

    def residual(block: int, x: Tensor, time: Tensor) -> Tensor:
        name = f"{mlp}blocks.{block}."
        scale, shift = linear(state, f"{name}mlp.1", time).chunk(2)
        hidden = linear(state, f"{name}fc_0", x.relu()) * (scale + 1) + shift
        return x + linear(state, f"{name}fc_1", hidden.relu())

    for block in range(3):
        views = [residual(block, x, time) for x, time in zip(views, times, strict=True)]
    x = torch.stack(views).mean(dim=0)
    for block in range(3, 5):
        x = residual(block, x, times[-1])
    raw = linear(state, f"{mlp}lin_out_feats", x.relu())
    return raw[:, :3].sigmoid(), raw[:, 3].relu(), raw[:, 4:]


def render_coarse(
    state: State,
    mlp: str,
    background: Tensor,
    views: tuple[Tensor, Tensor, Tensor, list[float]],
    camera: Tensor,
    size: int,
    near: float,
    far: float,
    samples: int,
) -> Tensor:
    """Colour in [-1, 1], depth and features [4 + f, size, size] of one pass with the given views."""
    maps, poses, intrinsics, levels = views
    corners = torch.linspace(0, 1, size, dtype=maps.dtype)
    z = torch.linspace(near, far, samples, dtype=maps.dtype)
    rows = []
    for y in corners:
        for x in corners:
            ray = camera[:3, :3] @ torch.linalg.inv(intrinsics) @ torch.stack([x, y, torch.ones_like(x)])
            points = camera[:3, 3] + z[:, None] * ray / ray.norm()
            colour, density, features = query(state, mlp, points, maps, poses, intrinsics, levels)
            gaps = torch.cat([z.diff(), z.diff()[-1:]])
            passing, weights = torch.ones(()).to(maps), []
            for gap, sigma in zip(gaps, density, strict=True):
                alpha = 1 - (-sigma * gap).exp()
                weights.append(alpha * passing)
                passing = passing * (1 - alpha + 1e-10)
            w = torch.stack(weights)
            seen = w @ colour + (1 - w.sum()) * background
            rows.append(torch.cat([seen * 2 - 1, (w @ z)[None], w @ features]))
    return torch.stack(rows, dim=1).view(-1, size, size)
